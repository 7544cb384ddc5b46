"""One request from its first byte to its answer: what holds it up has a limit, and nothing is done for who is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from voxkit.optional import require
from voxkit.serve.errors import Left, RequestError
from voxkit.serve.inputs import Limits

T = TypeVar("T")
_READERS = 2  # threads that parse, decode and resample


@dataclass
class Body:
    """The bytes of a request, until they are read."""

    data: bytearray = field(default_factory=bytearray)


class Requests:
    """Bodies and work of all requests.

    Args:
        limits: see Limits.

    Use: `start()`; `async with body(request) as body`; `await within_time(request, work)`, which reads it by `read(body, function)`;
    `close()` once the service is to stop.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0  # bytes of bodies
        self._closing: asyncio.Event | None = None
        self._readers: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Begin; on the loop of the requests."""
        self.held, self._closing, self._readers = 0, asyncio.Event(), ThreadPoolExecutor(_READERS, "voxkit-reader")

    def close(self) -> None:
        """Refuse what is under way: 503."""
        if self._closing is not None:
            self._closing.set()

    def stop(self) -> None:
        """Let the threads go."""
        if self._readers is not None:
            self._readers.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def body(self, request: Any) -> AsyncIterator[Body]:
        """The body of a request. It counts as held until it was read, or the context ends.

        Raises:
            RequestError: 408 it did not come in time; 413 too large; 415 packed; 503 too much is held already. Left: the client is gone.
        """
        limit = self.limits.max_bytes
        if request.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            raise RequestError(415, "a packed body; send it as it is, without Content-Encoding", closes=True)
        if int(request.headers.get("content-length") or 0) > limit:
            raise RequestError(413, f"the body is larger than {limit} bytes; send shorter pieces", closes=True)
        body = Body()
        late = RequestError(408, f"the body was not there within {self.limits.upload_timeout:g} s", closes=True)
        try:
            await self._attended(self._receive(request, body), self.limits.upload_timeout, late)
            yield body
        finally:
            self.held -= len(body.data)

    async def read(self, body: Body, function: Callable[[bytes], T]) -> T:
        """What a function that parses or decodes makes of the body, in a thread."""
        data, body.data = bytes(body.data), bytearray()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, function, data)
        finally:
            self.held -= len(data)

    async def read_bytes(self, data: bytes, function: Callable[[bytes], T]) -> T:
        """The same of bytes that came by another way.

        Raises:
            RequestError: 503 too much is held already.
        """
        self._hold(len(data), closes=False)
        return await self.read(Body(bytearray(data)), function)

    async def within_time(self, request: Any, work: Awaitable[T]) -> T:
        """The result of work for a request whose body is there; the work is cancelled where nobody waits for it any more.

        Raises:
            RequestError: 504 it took too long, 503 the service stops. Left: the client is gone.
        """
        late = RequestError(504, f"no result within {self.limits.timeout:g} s; send shorter audio, or try when fewer do")
        return await self._attended(work, self.limits.timeout, late, gone=_gone(request))

    async def _receive(self, request: Any, body: Body) -> None:
        disconnect = require("starlette.requests", "serve", why="voxkit serve").ClientDisconnect
        try:
            async for chunk in request.stream():
                body.data += chunk
                self._hold(len(chunk), closes=True)
                if len(body.data) > self.limits.max_bytes:
                    raise RequestError(413, f"the body is larger than {self.limits.max_bytes} bytes; send shorter pieces", closes=True)
        except disconnect:
            raise Left from None

    def _hold(self, size: int, closes: bool) -> None:
        self.held += size
        if self.held > self.limits.max_held:
            if not closes:
                self.held -= size
            raise RequestError(503, f"requests of more than {self.limits.max_held} bytes are under way already; try again later",
                               retry_after=1, closes=closes)

    async def _attended(self, work: Awaitable[T], seconds: float, late: RequestError, gone: Awaitable[None] | None = None) -> T:
        assert self._closing is not None, "start() comes first"
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._closing.wait())
        left = None if gone is None else asyncio.ensure_future(gone)
        every = [t for t in (task, stop, left) if t is not None]
        try:
            done, _ = await asyncio.wait(every, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return task.result()
            if left in done:
                raise Left
            if stop in done:
                raise RequestError(503, "the service stops; try another, or try again later", retry_after=1, closes=True)
            raise late
        finally:
            for t in every:
                t.cancel()
            await asyncio.gather(*every, return_exceptions=True)


async def _gone(request: Any) -> None:
    """Wait until the client is gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
