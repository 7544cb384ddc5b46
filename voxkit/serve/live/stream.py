"""One stream of audio inside the server, whatever protocol carries it: what waits to be worked on, and what there is to say."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from voxkit.hypothesis import Hypothesis
from voxkit.serve.live.errors import TIMEOUT, StreamError
from voxkit.serve.live.options import Change, StreamOptions

SLICE = 0.5  # seconds of a stream that are worked on at a time, so that one with much audio does not hold up the others
_AHEAD = 4.0  # seconds of audio that may wait; more is not read from the client
_MESSAGES = 512  # likewise messages, however short
_UNREAD = 256  # events that a client has not taken


@dataclass(frozen=True)
class Started:
    """Speech was noticed in the utterance that begins at `start` seconds."""

    start: float


@dataclass(frozen=True)
class Heard:
    """What was said between `start` and `end` seconds.

    Attributes:
        final: whether it will not change; pause: whether it ends because somebody paused, or said that it does; asked: whether it answers
            `finalize`.
        waited: seconds since the last audio of it arrived.
    """

    start: float
    end: float
    hypothesis: Hypothesis
    final: bool
    pause: bool = False
    asked: bool = False
    waited: float = 0.0


@dataclass(frozen=True)
class Configured:
    """A change was made, or refused for a reason."""

    change: Change
    refused: str | None = None


@dataclass(frozen=True)
class Ended:
    """Everything that was fed before `end` has been said."""


Event = Started | Heard | Configured | Ended


@dataclass(frozen=True)
class Finalize:
    """The utterance ends here."""


@dataclass(frozen=True)
class End:
    """No more audio comes."""


Control = Finalize | End | Change


@dataclass
class Work:
    """What a stream has for one round: audio [bytes], then maybe a control; `arrived`: when the last of the audio did (monotonic)."""

    data: bytes
    control: Control | None
    arrived: float


class Stream:
    """Made by a host (`voxkit.serve.live.streaming`, `.segments`); used on the event loop alone.

    Args:
        options: see StreamOptions.
        wake: called when there is something to work on.
        left: called once, when nobody wants its results any more.
    """

    def __init__(self, options: StreamOptions, wake: Callable[[], None], left: Callable[[Stream], None]) -> None:
        self.options, self.error = options, None
        self.inside: Any = None  # the host's
        self.open = False  # whether an utterance is under way
        self.received = 0  # bytes of audio
        self._wake, self._left = wake, left
        self._inbox: deque[tuple[bytes | Control, float]] = deque()
        self._waiting = 0
        self._outbox: deque[Event] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._ending = self.closed = False

    @property
    def seconds(self) -> float:
        """Of audio, received."""
        return self.received / self.options.bytes_per_second

    @property
    def ending(self) -> bool:
        """Whether `end` was called."""
        return self._ending

    def audio(self, data: bytes) -> None:
        """Whole frames of audio, the next. What comes after `end` is dropped."""
        assert len(data) % self.options.frame_bytes == 0
        if data and not self._ending and not self.closed:
            self.received += len(data)
            self._waiting += len(data)
            self.open = self.open or self.options.silence is None
            self._put(data)

    def finalize(self) -> None:
        """End the utterance; one final event says that it was asked for."""
        self._put(Finalize())

    def configure(self, change: Change) -> None:
        """Make a change; Configured says whether it was made."""
        self._put(change)

    def end(self) -> None:
        """No more audio comes; Ended follows the last final event."""
        if not self._ending:
            self._put(End())
            self._ending = True

    async def room(self) -> None:
        """Wait while so much audio waits that no more should be read."""
        await self._room.wait()

    async def events(self) -> AsyncIterator[Event]:
        """What there is to say, until Ended.

        Raises:
            StreamError: the stream cannot go on; events before it come first.
        """
        while True:
            while self._outbox:
                event = self._outbox.popleft()
                yield event
                if isinstance(event, Ended):
                    return
            if self.error is not None:
                raise self.error
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """Nobody wants to hear of it any more."""
        if not self.closed:
            self.closed = True
            self.halt()
            self._left(self)

    def fail(self, error: StreamError) -> None:
        """The stream ends here, after what was said already."""
        if self.error is None and not self.closed:
            self.error = error
            self._news.set()
            self.close()

    def halt(self) -> None:
        """For hosts: no more of it is worked on."""
        self._ending = True
        self._inbox.clear()
        self._waiting = 0
        self._room.set()

    def say(self, event: Event) -> None:
        """For hosts: an event. An interim one takes the place of one that was not read."""
        if self.closed:
            return
        if isinstance(event, Heard):
            self.open = not event.final
            if not event.final and self._outbox and isinstance(self._outbox[-1], Heard) and not self._outbox[-1].final:
                self._outbox.pop()
        elif isinstance(event, Started):
            self.open = True
        self._outbox.append(event)
        if len(self._outbox) > _UNREAD:
            self.fail(StreamError(TIMEOUT, f"{_UNREAD} messages were not read; read them, or ask for no interim results", 1.0))
        self._news.set()

    @property
    def busy(self) -> bool:
        """For hosts: whether there is something to work on."""
        return bool(self._inbox)

    def take(self) -> Work:
        """For hosts: the next slice of audio, and the control that follows it, if one does."""
        most = int(SLICE * self.options.rate) * self.options.frame_bytes
        parts: list[bytes] = []
        size, arrived, control = 0, time.monotonic(), None
        while self._inbox:
            what, at = self._inbox[0]
            if not isinstance(what, bytes):
                control = what
                self._inbox.popleft()
                break
            if size and size + len(what) > most:
                break
            parts.append(what)
            size, arrived = size + len(what), at
            self._inbox.popleft()
        self._waiting -= size
        if not self._crowded():
            self._room.set()
        return Work(b"".join(parts), control, arrived)

    def _put(self, what: bytes | Control) -> None:
        if not self._ending and not self.closed:
            self._inbox.append((what, time.monotonic()))
            if self._crowded():
                self._room.clear()
            self._wake()

    def _crowded(self) -> bool:
        return self._waiting > _AHEAD * self.options.bytes_per_second or len(self._inbox) > _MESSAGES
