"""What goes wrong between a client and a server, with the server's code where it gave one."""

from __future__ import annotations

BROKEN, FOREIGN = 1006, 1002  # WebSocket close codes: no close at all, and another protocol

# docs/serving.md: after which codes a client comes back, with the audio since the last final; how often in a row without a new final.
# None: as often as its options say.
RETRIED: dict[int, int | None] = {1001: None, BROKEN: None, 1011: 1, 1012: None, 1013: None, 4408: None, 4413: 0, 4429: None, 4503: None}
AT_ONCE = frozenset({1001, 1012, 4408, 4413, 4503})  # the other side said good-bye: no pause before the first attempt


class ClientError(OSError):
    """The stream is over, and not because its audio is.

    Attributes:
        code: the close code: the server's (docs/serving.md), or 1006 where it cannot be reached.
        name: the server's word for it, such as BUSY; UNREACHABLE, REFUSED and PROTOCOL are the client's.
        message: what happened, and what to do.
        retry_after: seconds after which the server would be asked again, where it said so.
    """

    def __init__(self, code: int, name: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} ({name}, {code})")
        self.code, self.name, self.message, self.retry_after = code, name, message, retry_after
