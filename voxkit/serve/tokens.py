"""Who may ask: tokens, where a client can put them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs

from voxkit.files import read_lines

_SCHEMES = ("bearer", "token")  # of the header, and as subprotocols
_OPENAI = "openai-insecure-api-key."  # a subprotocol of OpenAI's browser clients, beside "realtime"


class Tokens:
    """The tokens that are taken; none: everybody is let in. They are kept as hashes.

    Args:
        tokens: texts.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._known = {_hash(token) for token in tokens}

    @classmethod
    def read(cls, path: str | os.PathLike) -> Tokens:
        """A file with one a line; # begins a comment.

        Raises:
            ValueError: there is none in it, or one that no header can carry.
        """
        tokens = [token for line in read_lines(path) if (token := line.split("#")[0].strip())]
        if not tokens:
            raise ValueError(f"{path}: no token in it; write one a line")
        for number, token in enumerate(tokens, 1):
            if not token.isascii() or not token.isprintable() or any(c in token for c in ' ,;"'):
                raise ValueError(f"{path}: token {number} holds characters that no header can carry; use letters, digits, - and _")
        return cls(tokens)

    def __bool__(self) -> bool:
        return bool(self._known)

    def allow(self, authorization: str | None = None, subprotocols: Sequence[str] = (), query: str = "") -> bool:
        """Whether a request is let in.

        Args:
            authorization: the header; subprotocols: that a WebSocket offers; query: of the address.
        """
        if not self._known:
            return True
        given = []
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() in _SCHEMES:
            given.append(token.strip())
        for scheme, token in zip(subprotocols, subprotocols[1:]):
            if scheme.lower() in _SCHEMES:
                given.append(token)
        given += [name.removeprefix(_OPENAI) for name in subprotocols if name.startswith(_OPENAI)]
        given += parse_qs(query, max_num_fields=None).get("token", [])[:1]
        return any(_hash(token) in self._known for token in given)


def subprotocol(offered: Sequence[str]) -> str | None:
    """The one of a WebSocket's subprotocols to answer: the scheme before a token, or OpenAI's; None where there is none."""
    return next((name for name in offered[:-1] if name.lower() in _SCHEMES), next((name for name in offered if name == "realtime"), None))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
