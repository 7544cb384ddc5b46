"""A server of asyncio in a thread of its own, for as long as a `with` lasts."""

from __future__ import annotations

import asyncio
import threading


class BackgroundServer:
    """`_main` of a subclass makes `_stop`, sets `port` and `_ready`, and serves until `_stop` is set."""

    port: int
    _stop: asyncio.Event

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def _main(self) -> None:
        raise NotImplementedError
