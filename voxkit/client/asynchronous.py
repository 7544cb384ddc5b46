"""One stream of speech for asyncio: it survives broken connections, and replicas that die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from voxkit.client.backlog import Backlog
from voxkit.client.connecting import connect, hang_up
from voxkit.client.errors import BROKEN, RETRIED, ClientError
from voxkit.client.messages import Configured, Connected, Event, Finished, Reconnecting, Result, parse
from voxkit.client.options import ListenOptions
from voxkit.client.samples import Samples, as_bytes
from voxkit.optional import require

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


class AsyncStream:
    """Audio up, events down.

        async with AsyncStream(options) as stream:
            await stream.send(samples)
            await stream.finish()
            async for event in stream:
                ...

    Leaving the block without `finish` cancels. A broken connection is made again, perhaps to another replica, with all audio since the
    last final; the events are those of an unbroken one, and a `Reconnecting`. Interim results are void after it.

    Raises:
        ClientError: from the calls and from the iteration: the server refused, or could not be reached any more.
    """

    def __init__(self, options: ListenOptions | None = None) -> None:
        self.options = o = options or ListenOptions()
        self._backlog = Backlog(o.sample_rate, o.frame_bytes, o.keep)
        self._changes: list[dict[str, Any]] = []  # of the options, which the server has not answered
        self._asked = 0  # so many of them were sent on this connection
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._begun: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._error: ClientError | None = None
        self._over = self._progress = False

    async def __aenter__(self) -> AsyncStream:
        require("websockets", "client", why="streaming to a server")
        self._begun = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        try:
            await self._begun
        except BaseException:
            await self.cancel()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)  # whoever asks again is told so again
        if self._error is not None:
            raise self._error

    async def send(self, audio: Samples) -> None:
        """More audio: bytes in the encoding, or samples [S] (or [S, C]), int16 or float in [-1, 1]. Waits where much of it is unsent."""
        data = as_bytes(audio, self.options)
        self._check_open()
        self._backlog.append(data)
        self._wake.set()
        while self._backlog.ahead > self.options.ahead and not self._over:
            self._room.clear()
            await self._room.wait()
        if self._error is not None:
            raise self._error

    async def finalize(self) -> None:
        """A final of the audio so far is wanted now: the button was let go. It comes as a `Result` with `from_finalize`."""
        self._check_open()
        self._backlog.finalize()
        self._wake.set()

    async def configure(self, *, phrases: Sequence[str] | None = None, endpointing: float | None = None,
                        interim_results: bool | None = None) -> None:
        """Change what is named, from the next utterance on; `Configured` comes when it is done."""
        self._check_open()
        named = {"phrases": phrases, "endpointing": endpointing, "interim_results": interim_results}
        change: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        replace(self.options, **change)  # refuses what cannot be
        self._changes.append(change if phrases is None else {**change, "phrases": list(phrases)})
        self._wake.set()

    async def finish(self) -> None:
        """The audio is over; the events end when all of it is answered."""
        self._check_open()
        self._backlog.close()
        self._wake.set()

    async def cancel(self) -> None:
        """Leave now; what is unanswered stays so."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._end()

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self._over or self._backlog.closing:
            raise ValueError("the stream is over: its audio was finished or cancelled; open another")

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._events.put_nowait(None)
            self._room.set()
        if self._begun is not None and not self._begun.done():
            self._begun.cancel()

    async def _run(self) -> None:
        """Connections, one after the other, until everything is answered or there is no hope."""
        failures = lost = 0
        try:
            while True:
                self._progress, opened = False, time.monotonic()
                try:
                    self._events.put_nowait(await self._connection())
                    return
                except ClientError as error:
                    lasted = time.monotonic() - opened > self.options.retry.longest and RETRIED.get(error.code) is None
                    failures = 0 if self._progress or lasted else failures + 1
                    if self._is_hopeless(error, failures):
                        raise
                    wait = self.options.retry.wait(error, failures, random.random())
                    new, lost = self._backlog.lost - lost, self._backlog.lost
                    self._events.put_nowait(Reconnecting(error, wait, self._backlog.offset, new / self.options.sample_rate))
                    await asyncio.sleep(wait)
        except ClientError as error:
            self._error = error
            if self._begun is not None and not self._begun.done():
                self._begun.set_exception(error)
        finally:
            self._end()

    def _is_hopeless(self, error: ClientError, failures: int) -> bool:
        if error.code not in RETRIED:
            return True
        if error.code == BROKEN and self._begun is not None and not self._begun.done():
            return True  # nobody ever answered at this address
        limit = RETRIED[error.code]
        return failures > (self.options.retry.attempts if limit is None else limit)

    async def _connection(self) -> Finished:
        """One connection, until everything is answered; ClientError where it ends before."""
        from websockets.exceptions import ConnectionClosed

        connection = await connect(self.options, self._backlog.offset)
        refused: ClientError | None = None
        finished: Finished | None = None
        sender: asyncio.Task[None] | None = None
        try:
            async for message in connection:
                event = parse(message)
                if isinstance(event, ClientError):
                    refused = event
                elif isinstance(event, Finished):
                    finished = event
                elif event is not None:
                    if isinstance(event, Connected) and sender is None:
                        self._backlog.rewind()
                        self._asked = 0
                        sender = asyncio.create_task(self._send_all(connection))
                        if self._begun is not None and not self._begun.done():
                            self._begun.set_result(None)
                    elif isinstance(event, Result) and event.final:
                        self._progress = True
                        self._backlog.commit(event.start + event.duration, event.from_finalize)
                    elif isinstance(event, Configured) and self._asked:
                        self._asked -= 1
                        change = self._changes.pop(0)
                        if not event.problem:
                            self.options = replace(self.options, **change)
                    self._events.put_nowait(event)
        except ConnectionClosed:
            pass  # its code is asked for below
        finally:
            if sender is not None:
                sender.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                    await sender
            await hang_up(connection)
        code, reason = connection.close_code or BROKEN, connection.close_reason
        if finished is not None and code == 1000 and self._backlog.closing:
            return finished
        if refused is not None:
            raise refused
        if code == 1000:  # good-bye to a stream that is not over: another replica may be there
            code = 1001
        raise ClientError(code, "CLOSED", f"the connection was closed by the other side{f': {reason}' if reason else ''}")

    def _change(self) -> str | None:
        """The Configure message that is to be sent next, if one is."""
        if self._asked == len(self._changes):
            return None
        self._asked += 1
        change = self._changes[self._asked - 1]
        return json.dumps({"type": "Configure", **{"keyterms" if name == "phrases" else name: value for name, value in change.items()}})

    async def _send_all(self, connection: ClientConnection) -> None:
        while True:
            self._wake.clear()
            item = self._change() or self._backlog.next()
            if item is None:
                try:
                    await asyncio.wait_for(self._wake.wait(), self.options.keepalive)
                    continue
                except asyncio.TimeoutError:
                    item = "KeepAlive"
            await connection.send(item if isinstance(item, bytes) or item.startswith("{") else json.dumps({"type": item}))
            self._room.set()
