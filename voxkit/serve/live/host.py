"""Who works on streams: one thread that takes a slice of each in turn, so that those that come together are worked on together."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from voxkit.optional import MissingPackage
from voxkit.runtime.endpoint import Endpointing
from voxkit.serve.live.errors import INVALID, StreamError, failed
from voxkit.serve.live.options import StreamOptions
from voxkit.serve.live.stream import Heard, Stream, Work
from voxkit.serve.metrics import Metrics

log = logging.getLogger(__name__)
_SMOOTH = 0.2  # weight of the last round in the mean
_FORGET = 2.0  # seconds without a round, after which rounds are taken for short


@dataclass(frozen=True)
class HostLimits:
    """Attributes:
    utterance: seconds of one that no pause ends, where the client says when it ends.
    endpointing: when pauses end an utterance; a client says how much silence.
    delay: seconds that a slice of all streams may take, wait: that an utterance may wait for the model; above, no more streams are taken.
    """

    utterance: float = 60.0
    endpointing: Endpointing = Endpointing()
    delay: float = 0.25
    wait: float = 1.0


class Host(ABC):
    """Streams, and the thread that works on them.

    Args:
        limits: see HostLimits.
        metrics: of the service.

    Use: `await start()`, `await open(options)`, `await stop()`; on one event loop.
    """

    streaming: bool

    def __init__(self, limits: HostLimits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.streams: set[Stream] = set()
        self._arrived: asyncio.Event | None = None
        self._task: asyncio.Task | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._round_seconds, self._last_round = 0.0, 0.0

    @abstractmethod
    def prepare(self, options: StreamOptions) -> Any:
        """In a thread: what a stream is inside, before its first sample.

        Raises:
            ValueError: options that this model cannot serve.
        """

    @abstractmethod
    def work(self, streams: Sequence[tuple[Any, Work]]) -> list[tuple[list[Any], StreamError | None]]:
        """In the host's thread: a slice of each stream (what `prepare` made, work) → what came of each, and why it ends, if it does."""

    def deliver(self, stream: Stream, found: Sequence[Any], error: StreamError | None) -> None:
        """On the event loop: what came of a slice, and why the stream ends with it, if it does."""
        for event in found:
            if isinstance(event, Heard) and (event.hypothesis.text or event.asked):
                self.metrics.result_seconds.observe(event.waited)
            stream.say(event)
        if error is not None:
            stream.fail(error)

    @property
    def alive(self) -> bool:
        """Whether it works on streams; it always should, once it was started."""
        return self._task is not None and not self._task.done()

    @property
    def overloaded(self) -> bool:
        """Whether this machine could not keep up with one more stream."""
        return self.delay > self.limits.delay

    @property
    def delay(self) -> float:
        """Seconds that a slice of all streams takes now: so long does each wait for its text."""
        return self._round_seconds if time.monotonic() - self._last_round < _FORGET else 0.0

    async def start(self) -> None:
        """Begin; on the loop of the streams."""
        self._arrived, self._thread = asyncio.Event(), ThreadPoolExecutor(1, "voxkit-live")
        self._task = asyncio.create_task(self._rounds())

    async def stop(self) -> None:
        """Work on nothing any more."""
        for stream in list(self.streams):
            stream.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def open(self, options: StreamOptions) -> Stream:
        """A stream before its first sample.

        Raises:
            StreamError: INVALID: options that this model cannot serve.
        """
        stream = Stream(options, self._wake, self.forget)
        try:
            stream.inside = await asyncio.to_thread(self.prepare, options)
        except (ValueError, MissingPackage) as error:
            raise StreamError(INVALID, str(error)) from error
        self.streams.add(stream)
        return stream

    def forget(self, stream: Stream) -> None:
        """A stream that was closed."""
        self.streams.discard(stream)

    def _wake(self) -> None:
        assert self._arrived is not None, "start() comes first"
        self._arrived.set()

    async def _rounds(self) -> None:
        assert self._arrived is not None and self._thread is not None
        loop = asyncio.get_running_loop()
        while True:
            busy = [stream for stream in self.streams if stream.busy]
            if not busy:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            slices = [(stream.inside, stream.take()) for stream in busy]
            began = time.monotonic()
            try:
                found = await loop.run_in_executor(self._thread, self.work, slices)
            except Exception:  # not a client's doing: those are found before; a client goes on elsewhere from its last final
                log.exception("%d streams failed", len(busy))
                found = [([], failed()) for _ in busy]
            self._last_round = time.monotonic()
            self._round_seconds += _SMOOTH * (self._last_round - began - self._round_seconds)
            self.metrics.round_seconds.observe(self._last_round - began)
            for stream, (events, error) in zip(busy, found):
                if error is not None:
                    stream.halt()
                self.deliver(stream, events, error)

