"""What a client did wrong, or the server cannot do now, with the HTTP status that says so."""

from __future__ import annotations


class RequestError(Exception):
    """An answer that is no transcript.

    Attributes:
        status: HTTP status: 400 not JSON, 413 too large or too long, 415 a form, 422 cannot be recognised, 503 too busy, 504 took too long.
        message: what, which, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
