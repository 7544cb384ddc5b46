"""Requests that arrive together are recognized together: those of one kind and of about one length.

Two lanes, each with a thread of its own: what is short does not wait for what is long. Within a lane whoever came first goes first, with
those of its like. What nobody waits for any more is not begun, and what runs for nobody ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from voxkit.serve.errors import RequestError
from voxkit.serve.stopping import Stopped

log = logging.getLogger(__name__)


@dataclass
class BatchingConfig:
    """Attributes:
    max_batch: requests in a batch.
    max_batch_seconds: of audio in a batch; one request may be longer.
    max_wait: seconds that the first request of a batch waits for others.
    max_waiting, max_waiting_seconds: requests that may wait, and seconds of audio in them; more are refused with 503.
    short: seconds of audio up to which a request goes by the lane of short ones.
    """

    max_batch: int = 16
    max_batch_seconds: float = 120.0
    max_wait: float = 0.01
    max_waiting: int = 256
    max_waiting_seconds: float = 3600.0
    short: float = 10.0

    def problems(self) -> list[str]:
        """What cannot be."""
        found = [f"{name}: {getattr(self, name)} is below 1" for name in ("max_batch", "max_waiting") if getattr(self, name) < 1]
        if not 0 <= self.max_wait < math.inf:
            found.append(f"max_wait: {self.max_wait} is negative, or no number")
        return found + [f"{name}: {getattr(self, name)} is not above 0" for name in ("max_batch_seconds", "max_waiting_seconds", "short")
                        if not getattr(self, name) > 0]


@dataclass(eq=False)
class _Waiting:
    key: Any  # (the caller's key, class of length)
    item: Any
    seconds: float
    future: asyncio.Future
    began: float = field(default_factory=time.monotonic)


class Batcher:
    """The queues before a model.

    Args:
        run: (key, items of that key, event) → results, in order. Each lane calls it from a thread of its own, so two calls may be under
            way at once. Once the event is set nobody waits for the results, and it may raise Stopped.
        config: see BatchingConfig.

    Use: `await batcher.start()`, then `await batcher.submit(key, item, seconds)`; `await batcher.stop()`.
    """

    def __init__(self, run: Callable[[Any, Sequence[Any], threading.Event], list[Any]], config: BatchingConfig | None = None) -> None:
        self.run, self.config = run, config or BatchingConfig()
        self.batches = self.requests = self.ended = 0  # for those who watch
        self._lanes = [_Lane(self, "short"), _Lane(self, "long")]

    @property
    def waiting(self) -> int:
        """Requests that no model works on yet."""
        return sum(len(lane.queue) for lane in self._lanes)

    async def start(self) -> None:
        """Begin to take requests; on the loop that will submit them."""
        for lane in self._lanes:
            lane.start()

    async def stop(self) -> None:
        """Answer nobody any more."""
        for lane in self._lanes:
            await lane.stop()

    @property
    def alive(self) -> bool:
        """Whether it answers requests; it always should, once it was started."""
        return all(lane.alive for lane in self._lanes)

    @property
    def oldest(self) -> float:
        """Seconds that the first of those that wait has been waiting."""
        began = [lane.queue[0].began for lane in self._lanes if lane.queue]
        return time.monotonic() - min(began) if began else 0.0

    async def submit(self, key: Any, item: Any, seconds: float = 0.0, *, always: bool = False) -> Any:
        """The result of one item. Only items of equal keys and about equal `seconds` share a batch; to be cancelled is to leave.

        Args:
            always: take it however many wait; whoever says so limits how many that are.

        Raises:
            RequestError: 503 too many wait, 422 what the model refused, 500 what it could not.
        """
        if self.waiting >= self.config.max_waiting and not always:
            raise RequestError(503, f"{self.config.max_waiting} requests are waiting already; try again later", retry_after=1)
        queued = sum(entry.seconds for lane in self._lanes for entry in lane.queue)
        if queued and not always and queued + seconds > self.config.max_waiting_seconds:
            raise RequestError(503, f"{queued:.0f} s of audio are waiting already; try again later", retry_after=1)
        lane = self._lanes[seconds > self.config.short]
        entry = _Waiting((key, length_class(seconds)), item, seconds, asyncio.get_running_loop().create_future())
        lane.put(entry)
        try:
            return await entry.future
        finally:
            lane.left(entry)


def length_class(seconds: float) -> int:
    """Audio of one class is at most twice as long as other audio of it; all below a second is one class."""
    return max(0, math.ceil(math.log2(seconds))) if seconds > 0 else 0


class _Lane:
    """One queue, its thread, and the batch that runs."""

    def __init__(self, owner: Batcher, name: str) -> None:
        self.owner, self.name = owner, name
        self.queue: list[_Waiting] = []
        self._arrived: asyncio.Event | None = None
        self._task: asyncio.Task | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._running: list[_Waiting] = []
        self._unwanted = threading.Event()

    def start(self) -> None:
        self.queue, self._arrived = [], asyncio.Event()
        self._thread = ThreadPoolExecutor(1, f"voxkit-{self.name}")
        self._task = asyncio.create_task(self._work())

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        self._unwanted.set()
        for entry in [*self.queue, *self._running]:
            entry.future.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def put(self, entry: _Waiting) -> None:
        assert self._arrived is not None, "start() comes first"
        self.queue.append(entry)
        self._arrived.set()

    def left(self, entry: _Waiting) -> None:
        """Whoever submitted the entry waits for it no longer."""
        if entry in self.queue:
            self.queue.remove(entry)
        if entry in self._running and all(e.future.done() for e in self._running):
            self._unwanted.set()

    async def _work(self) -> None:
        assert self._arrived is not None
        config, loop = self.owner.config, asyncio.get_running_loop()
        while True:
            while not self.queue:
                self._arrived.clear()
                await self._arrived.wait()
            first, until = self.queue[0], loop.time() + config.max_wait
            while first in self.queue and len(self._like(first)) < config.max_batch and (left := until - loop.time()) > 0:
                self._arrived.clear()
                try:
                    await asyncio.wait_for(self._arrived.wait(), left)
                except asyncio.TimeoutError:
                    break
            if first in self.queue:  # else it left while it waited for others
                batch = self._like(first)
                self.queue = [entry for entry in self.queue if entry not in batch]
                await self._answer(batch)

    def _like(self, first: _Waiting) -> list[_Waiting]:
        """What would share a batch with the first now."""
        config, batch, seconds = self.owner.config, [first], first.seconds
        for entry in self.queue:
            if entry is first or entry.key != first.key:
                continue
            if len(batch) == config.max_batch or seconds + entry.seconds > config.max_batch_seconds:
                break
            batch, seconds = [*batch, entry], seconds + entry.seconds
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        batch = [entry for entry in batch if not entry.future.done()]
        if not batch:
            return
        self.owner.batches, self.owner.requests = self.owner.batches + 1, self.owner.requests + len(batch)
        self._running, self._unwanted = batch, threading.Event()
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self.owner.run, batch[0].key[0], [entry.item for entry in batch],
                                                 self._unwanted)
        except Stopped:
            self.owner.ended += len(batch)
            return
        except Exception as error:
            if len(batch) > 1:  # one bad item must not fail its neighbors
                for entry in batch:
                    await self._answer([entry])
                return
            if not isinstance(error, (RequestError, ValueError)):
                log.exception("a request failed")
            refused = error if isinstance(error, RequestError) else RequestError(422, str(error)) if isinstance(error, ValueError) \
                else RequestError(500, f"the model failed: {type(error).__name__}; the server's log says more")
            if not batch[0].future.done():
                batch[0].future.set_exception(refused)
            return
        finally:
            self._running = []
        for entry, result in zip(batch, results):
            if not entry.future.done():
                entry.future.set_result(result)
