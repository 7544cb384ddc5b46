"""The same stream without asyncio: a thread of its own talks to the server."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from voxkit.client.asynchronous import AsyncStream
from voxkit.client.errors import ClientError
from voxkit.client.messages import Event
from voxkit.client.options import ListenOptions
from voxkit.client.samples import Samples

T = TypeVar("T")


class Stream:
    """Audio up, events down; see AsyncStream, whose methods it has.

        with Stream(options) as stream:
            stream.send(samples)
            for event in stream.pending():
                ...
            for event in stream.finish():
                ...

    Raises:
        ClientError: from any call after the server refused or could not be reached any more.
    """

    def __init__(self, options: ListenOptions | None = None) -> None:
        self._options = options
        self._events: queue.SimpleQueue[Event | ClientError | None] = queue.SimpleQueue()
        self._over = False

    def __enter__(self) -> Stream:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="voxkit client", daemon=True)
        self._thread.start()
        try:
            self._stream = self._do(self._open())
        except BaseException:
            self._stop()
            raise
        self._reader = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()
        self._reader.result()
        self._stop()

    def send(self, audio: Samples) -> None:
        """More audio; waits where much of it is unsent."""
        self._do(self._stream.send(audio))

    def finalize(self) -> None:
        """A final of the audio so far is wanted now."""
        self._do(self._stream.finalize())

    def configure(self, *, phrases: Sequence[str] | None = None, endpointing: float | None = None,
                  interim_results: bool | None = None) -> None:
        """Change what is named, from the next utterance on."""
        self._do(self._stream.configure(phrases=phrases, endpointing=endpointing, interim_results=interim_results))

    def finish(self) -> Iterator[Event]:
        """The audio is over → the remaining events, the last of which is Finished."""
        self._do(self._stream.finish())
        return iter(self)

    def cancel(self) -> None:
        """Leave now; what is unanswered stays so."""
        self._do(self._stream.cancel())

    def pending(self) -> Iterator[Event]:
        """The events that are there already."""
        while not self._over:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return
            if (kept := self._kept(event)) is not None:
                yield kept

    def __iter__(self) -> Iterator[Event]:
        """Events, waited for, until the stream is over."""
        while not self._over:
            if (kept := self._kept(self._events.get())) is not None:
                yield kept

    def _kept(self, event: Event | ClientError | None) -> Event | None:
        if event is None or isinstance(event, ClientError):
            self._over = True
            if event is not None:
                raise event
        return event

    async def _open(self) -> AsyncStream:
        return await AsyncStream(self._options).__aenter__()

    async def _read(self) -> None:
        try:
            async for event in self._stream:
                self._events.put(event)
            self._events.put(None)
        except ClientError as error:
            self._events.put(error)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
