"""What a client did wrong, or the server cannot do now, with the HTTP status that says so."""

from __future__ import annotations


class RequestError(Exception):
    """An answer that is no transcript.

    Attributes:
        status: HTTP status: 400 not JSON, 408 it did not arrive in time, 413 too large or too long, 415 a form or a packed body,
            422 cannot be recognized, 503 too busy, 504 took too long.
        message: what, which, and what to do.
        retry_after: seconds after which it may be tried again; None: not so, or not known.
        closes: whether the connection ends with the answer, because the rest of the request is still on it.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None, closes: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after, self.closes = status, message, retry_after, closes

    def headers(self) -> dict[str, str]:
        """Header fields of the answer."""
        fields = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {**fields, "Connection": "close"} if self.closes else fields


class Left(Exception):
    """The client is gone: nobody reads an answer."""
