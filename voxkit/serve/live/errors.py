"""Why a stream of audio is refused or ended: one number for every protocol that carries streams."""

from __future__ import annotations

FAILED, INVALID, UNAUTHORIZED, TIMEOUT, TOO_LARGE, BUSY, STOPPING = 1011, 4400, 4401, 4408, 4413, 4429, 4503
VARIANTS = {FAILED: "FAILED", INVALID: "INVALID", UNAUTHORIZED: "UNAUTHORIZED", TIMEOUT: "TIMEOUT", TOO_LARGE: "TOO_LARGE", BUSY: "BUSY",
            STOPPING: "STOPPING"}


class StreamError(Exception):
    """A stream ends, or does not begin.

    Attributes:
        code: the close code of the WebSocket, a key of VARIANTS.
        message: what, which, and what to do.
        retry_after: seconds after which it may be tried again; None: trying again makes no sense.
    """

    def __init__(self, code: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        assert code in VARIANTS
        self.code, self.message, self.retry_after = code, message, retry_after

    @property
    def variant(self) -> str:
        """The code as a word."""
        return VARIANTS[self.code]


def failed() -> StreamError:
    """A failure that is none of the client's doing; it goes on elsewhere from its last final."""
    return StreamError(FAILED, "the service failed; its log says more; connect anew with `offset`", 1.0)


class Gone(Exception):
    """The client is not there any more: nobody reads an answer."""
