"""What a client asks for: where, in what form the audio comes, what is to be said about it, how long to try."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from voxkit.client.errors import AT_ONCE, ClientError
from voxkit.rate import LIVE_RATES

ENCODINGS = {"linear16": 2, "linear32": 4}  # bytes of a sample: s16le, f32le
TOKEN = "VOXKIT_TOKEN"  # the environment variable that holds one


@dataclass(frozen=True)
class Retry:
    """How a client comes back after a connection broke.

    Attributes:
        attempts: failures in a row, without a final in between, after which the client gives up. A server that never answered is not tried
            again: its address is wrong.
        first, longest: seconds to wait, doubled each time, and the most it grows to.
        connect: seconds that a connection may take to be made.
    """

    attempts: int = 8
    first: float = 0.5
    longest: float = 10.0
    connect: float = 10.0

    def wait(self, error: ClientError, failures: int, jitter: float) -> float:
        """Seconds before the next attempt after so many failures in a row; `jitter` in [0, 1) spreads clients over half of it."""
        if error.retry_after is not None:
            return error.retry_after * (1 + 0.25 * jitter)
        if failures <= 1 and error.code in AT_ONCE:
            return 0.0
        return min(self.longest, self.first * 2.0 ** max(0, failures - 1)) * (0.5 + 0.5 * jitter)


@dataclass(frozen=True)
class ListenOptions:
    """Attributes:
    url: `ws://host:port` or `wss://…`; http and https mean the same. A path is kept, `/v1/listen` comes behind it unless it is there.
    token: sent as `Authorization: Bearer`; by default that of VOXKIT_TOKEN.
    sample_rate, channels, encoding: of the audio that is sent; encoding linear16 (s16le) or linear32 (float).
    interim_results: whether texts that may still change are wanted.
    endpointing: milliseconds of silence that end an utterance; None: only `finalize` and the end do.
    phrases: to favor, each by `boost` nats per token (None: the server's usual strength).
    keep: seconds of audio at most that are kept for a reconnection once they were sent; what is older is lost then, and said to be.
    ahead: seconds of audio that may wait to be sent before `send` waits.
    keepalive: seconds without audio after which the server is told that the client is there.
    retry: see Retry.
    """

    url: str = "ws://127.0.0.1:8000"
    token: str | None = None
    sample_rate: int = 16_000
    channels: int = 1
    encoding: str = "linear16"
    interim_results: bool = True
    endpointing: float | None = 500
    phrases: Sequence[str] = ()
    boost: float | None = None
    keep: float = 600.0
    ahead: float = 5.0
    keepalive: float = 4.0
    retry: Retry = field(default_factory=Retry)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.netloc:
            raise ValueError(f"url: {self.url!r} is none of a server; give e.g. ws://127.0.0.1:8000")
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding: {self.encoding!r}; choose from {', '.join(ENCODINGS)}")
        if self.sample_rate not in LIVE_RATES or self.channels not in (1, 2):
            raise ValueError(f"{self.sample_rate} samples/s, channels: {self.channels}; the server takes 1 or 2 channels of "
                             f"{', '.join(map(str, LIVE_RATES))} samples/s")
        if isinstance(self.phrases, str):
            raise ValueError(f"phrases: {self.phrases!r} is one text; give a list of phrases")

    @property
    def frame_bytes(self) -> int:
        """Of one sample of all channels."""
        return ENCODINGS[self.encoding] * self.channels

    @property
    def bearer(self) -> str | None:
        """The token to send."""
        return self.token or os.environ.get(TOKEN) or None

    def address(self, offset: float) -> str:
        """Where to connect for audio that begins at `offset` seconds of the session."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        query = [("encoding", self.encoding), ("sample_rate", str(self.sample_rate)), ("channels", str(self.channels)),
                 ("interim_results", str(self.interim_results).lower()),
                 ("endpointing", "false" if self.endpointing is None else f"{self.endpointing:g}"), ("offset", f"{offset:.6f}")]
        query += [("keyterm_boost", f"{self.boost:g}")] if self.boost is not None else []
        query += [("keyterm", phrase) for phrase in self.phrases]
        asked = "&".join(part for part in (parts.query, urlencode(query, quote_via=quote)) if part)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        return urlunsplit((scheme, parts.netloc, path if path.endswith("/v1/listen") else f"{path}/v1/listen", asked, ""))

    def base(self) -> str:
        """`http://host:port/path` of the server, for requests."""
        parts = urlsplit(self.url)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/v1/listen"), "", ""))

