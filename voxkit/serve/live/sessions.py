"""Which live sessions are let in, what each may send, and how they end when the server stops; the same for every protocol."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from math import inf

from voxkit.runtime.endpoint import Endpointing
from voxkit.serve.live.errors import BUSY, INVALID, STOPPING, TOO_LARGE, Gone, StreamError
from voxkit.serve.live.host import Host
from voxkit.serve.live.options import StreamOptions
from voxkit.serve.live.stream import Stream
from voxkit.serve.metrics import Metrics

_LOOK = 0.05  # seconds between two looks at whether an utterance is over
SLACK = 1.25  # a message may be so many times longer than said: clients round


@dataclass
class LiveLimits:
    """Attributes:
    max_sessions: at a time. max_delay: seconds that a slice of all of them may take; above, no more are taken.
    idle: seconds without audio and without a sign of life.
    session_seconds: of audio in a session. message_seconds: in a message.
    endpointing: when an utterance ends; its `silence` where a client does not say.
    send_timeout: seconds that a client may take to read what is sent to it.
    """

    max_sessions: int = 64
    max_delay: float = 0.25
    idle: float = 10.0
    session_seconds: float = 14_400.0
    message_seconds: float = 1.0
    endpointing: Endpointing = Endpointing()
    send_timeout: float = 10.0

    def problems(self) -> list[str]:
        """What cannot be."""
        found = [] if self.max_sessions >= 0 else [f"max_sessions: {self.max_sessions} is below 0"]
        found += [f"endpointing.{problem}" for problem in self.endpointing.problems()]
        return found + [f"{name}: {getattr(self, name)} is not above 0, or has no end" for name in
                        ("max_delay", "idle", "session_seconds", "message_seconds", "send_timeout") if not 0 < getattr(self, name) < inf]


class Sessions:
    """The live sessions of a service.

    Args:
        host: works on their audio.
    """

    def __init__(self, host: Host, limits: LiveLimits, metrics: Metrics, model: str) -> None:
        self.host, self.limits, self.metrics, self.model = host, limits, metrics, model
        self.count = 0
        self._until: float | None = None  # monotonic, when sessions must end
        self._draining: asyncio.Event | None = None

    async def start(self) -> None:
        """Begin; on the loop of the sessions."""
        self._draining, self._until = asyncio.Event(), None
        await self.host.start()

    async def stop(self) -> None:
        """Drop what is left."""
        await self.host.stop()

    @property
    def stopping(self) -> bool:
        """Whether no more sessions are taken because the server stops."""
        return self._until is not None

    @property
    def full(self) -> bool:
        """Whether no more sessions are taken now."""
        return self.count >= self.limits.max_sessions or self.host.overloaded

    @contextlib.asynccontextmanager
    async def admit(self, protocol: str, options: StreamOptions) -> AsyncIterator[Stream]:
        """A stream; it is closed with the context.

        Raises:
            StreamError: it is not let in.
        """
        try:
            self._check()
            self.count += 1
            try:
                stream = await self.host.open(options)
            except BaseException:
                self.count -= 1
                raise
        except StreamError as error:
            self.metrics.refused.labels(error.code).inc()
            raise
        self.metrics.opened.labels(protocol).inc()
        self.metrics.sessions.labels(protocol).inc()
        code = 1000
        try:
            yield stream
        except BaseException as error:
            code = error.code if isinstance(error, StreamError) else 1006 if isinstance(error, (Gone, asyncio.CancelledError)) else 1011
            raise
        finally:
            self.count -= 1
            stream.close()
            self.metrics.audio_seconds.inc(stream.seconds)
            self.metrics.sessions.labels(protocol).dec()
            self.metrics.ended.labels(code).inc()

    async def take(self, stream: Stream, data: bytes) -> None:
        """Audio of a client; waits while there is enough of it.

        Raises:
            StreamError: INVALID half a frame; TOO_LARGE too long a message, or session.
        """
        options, limits = stream.options, self.limits
        if len(data) % options.frame_bytes:
            raise StreamError(INVALID, f"a message of {len(data)} bytes is no whole number of frames of {options.frame_bytes} bytes "
                                       f"({options.encoding}, {options.channels} channel(s)); never send half of one")
        seconds = len(data) / options.bytes_per_second
        if seconds > limits.message_seconds * SLACK:
            raise StreamError(TOO_LARGE, f"a message of {seconds:.2f} s; at most {limits.message_seconds:g} s, send more of them", 0.0)
        if stream.seconds + seconds > limits.session_seconds:
            raise StreamError(TOO_LARGE, f"a session of more than {limits.session_seconds:g} s of audio; connect anew with `offset`", 0.0)
        stream.audio(data)
        await stream.room()

    async def converse(self, stream: Stream, read: Coroutine, write: Coroutine, tell: Callable[[float], Awaitable[None]]) -> None:
        """Read, write, and watch for the server's end, until what is written has come to its end.

        Args:
            read: takes what the client sends, and ends the stream; it may go on behind that. write: says the stream's events.
            tell: is told how many seconds are left, when the server stops.

        Raises:
            StreamError, Gone: as one of them ends it.
        """
        writer, others = asyncio.create_task(write), [asyncio.create_task(read), asyncio.create_task(self._drained(stream, tell))]
        try:
            while not writer.done():
                done, _ = await asyncio.wait([writer, *others], return_when=asyncio.FIRST_COMPLETED)
                for task in done - {writer}:
                    others.remove(task)
                    task.result()
            writer.result()
        finally:
            for task in (writer, *others):
                task.cancel()
            await asyncio.gather(writer, *others, return_exceptions=True)

    async def _drained(self, stream: Stream, tell: Callable[[float], Awaitable[None]]) -> None:
        """Wait for the server to stop, let the utterance come to its end, then end the stream."""
        assert self._draining is not None, "start() comes first"
        await self._draining.wait()
        assert self._until is not None
        await tell(max(0.0, self._until - time.monotonic()))
        while stream.open and not stream.ending and time.monotonic() < self._until:
            await asyncio.sleep(_LOOK)
        stream.end()

    async def drain(self, seconds: float) -> None:
        """Take no more sessions, tell those there are, and wait until they ended, at most so long."""
        assert self._draining is not None, "start() comes first"
        now = time.monotonic()
        self._until = now + seconds / 2  # the rest is for what was heard until then
        self._draining.set()
        while self.count and time.monotonic() < now + seconds:
            await asyncio.sleep(_LOOK)

    def _check(self) -> None:
        if self.stopping:
            raise StreamError(STOPPING, "the server stops; connect anew, to another", 0.0)
        if self.count >= self.limits.max_sessions:
            raise StreamError(BUSY, f"{self.count} sessions are under way, no more are taken; try again later, or another server", 2.0)
        if self.host.overloaded:
            raise StreamError(BUSY, "this machine could not keep up with one more session; try again later, or another server", 2.0)
