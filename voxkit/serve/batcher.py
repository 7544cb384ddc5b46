"""Requests that arrive together are recognised together: one batch at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from voxkit.serve.errors import RequestError

log = logging.getLogger(__name__)


@dataclass
class BatchingConfig:
    """Attributes:
    max_batch: requests in a batch.
    max_wait: seconds that the first request of a batch waits for others.
    max_waiting: requests that may wait; more are refused with 503.
    timeout: seconds after which a request is answered with 504.
    """

    max_batch: int = 16
    max_wait: float = 0.01
    max_waiting: int = 256
    timeout: float = 30.0

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is below 1" for name in ("max_batch", "max_waiting") if getattr(self, name) < 1]
        if self.max_wait < 0:
            found.append(f"max_wait: {self.max_wait} is negative")
        return found + ([f"timeout: {self.timeout} is not above 0"] if self.timeout <= 0 else [])


class Batcher:
    """The queue before a model.

    Args:
        run: items of one kind → results, in order. It is called in one thread, never twice at once.
        config: see BatchingConfig.

    Use: `await batcher.start()`, then `await batcher.submit(key, item)`; `await batcher.stop()`.
    """

    def __init__(self, run: Callable[[Any, Sequence[Any]], list[Any]], config: BatchingConfig | None = None) -> None:
        self.run, self.config = run, config or BatchingConfig()
        self.batches = self.requests = 0  # for those who watch
        self._queue: asyncio.Queue | None = None
        self._held: list[tuple[Any, Any, asyncio.Future]] = []  # of other keys than the batch they were met with
        self._task: asyncio.Task | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Begin to take requests; on the loop that will submit them."""
        self._queue, self._held = asyncio.Queue(), []
        self._thread = ThreadPoolExecutor(1, "voxkit-model")
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Answer nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def submit(self, key: Any, item: Any) -> Any:
        """The result of one item. Only items of equal keys share a batch.

        Raises:
            RequestError: 503 too many wait, 504 it took too long, 422 what the model refused, 500 what it could not.
        """
        assert self._queue is not None, "start() comes first"
        if self._queue.qsize() + len(self._held) >= self.config.max_waiting:
            raise RequestError(503, f"{self.config.max_waiting} requests are waiting already; try again later")
        future = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((key, item, future))
        try:
            return await asyncio.wait_for(future, self.config.timeout)
        except asyncio.TimeoutError:
            raise RequestError(504, f"no result within {self.config.timeout:g} s; send shorter audio, or try when fewer do") from None

    async def _work(self) -> None:
        assert self._queue is not None
        while True:
            batch = [self._held.pop(0) if self._held else await self._queue.get()]
            key = batch[0][0]
            same, other = [e for e in self._held if e[0] == key], [e for e in self._held if e[0] != key]
            room = self.config.max_batch - 1
            batch, self._held = batch + same[:room], same[room:] + other
            until = asyncio.get_running_loop().time() + self.config.max_wait
            while len(batch) < self.config.max_batch:
                left = until - asyncio.get_running_loop().time()
                at_once = self._queue.qsize() > 0 or left <= 0
                try:
                    entry = self._queue.get_nowait() if at_once else await asyncio.wait_for(self._queue.get(), left)
                except (asyncio.QueueEmpty, asyncio.TimeoutError):
                    break
                (batch if entry[0] == key else self._held).append(entry)
            batch = [entry for entry in batch if not entry[2].done()]  # those who no longer wait cost nothing
            if batch:
                await self._answer(key, batch)

    async def _answer(self, key: Any, batch: list[tuple[Any, Any, asyncio.Future]]) -> None:
        self.batches, self.requests = self.batches + 1, self.requests + len(batch)
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self.run, key, [item for _, item, _ in batch])
        except Exception as error:
            if len(batch) > 1:  # one bad item must not fail its neighbours
                for entry in batch:
                    await self._answer(key, [entry])
                return
            if not isinstance(error, (RequestError, ValueError)):
                log.exception("a request failed")
            refused = error if isinstance(error, RequestError) else RequestError(422, str(error)) if isinstance(error, ValueError) \
                else RequestError(500, f"the model failed: {type(error).__name__}; the server's log says more")
            if not batch[0][2].done():
                batch[0][2].set_exception(refused)
            return
        for (_, _, future), result in zip(batch, results):
            if not future.done():
                future.set_result(result)
