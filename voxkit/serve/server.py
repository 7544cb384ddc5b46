"""An application behind a socket: uvicorn, with limits that it lacks.

A head that is sent by halves ends after `head_timeout`; a server told to stop (SIGTERM) refuses what is not answered within `drain`.
"""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

from voxkit.optional import require

_WHY = json.dumps({"error": "the head of the request was not in time"}).encode()
_LATE = (b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
         b"Content-Length: %d\r\n\r\n%s" % (len(_WHY), _WHY))


def make_server(app: Any, *, host: str = "127.0.0.1", port: int = 8000, log_level: str = "info") -> Any:
    """A uvicorn server for an application of `create_app`; `.run()` it."""
    uvicorn = require("uvicorn", "serve", why="voxkit serve")
    limits = app.state.limits
    config = uvicorn.Config(app, host=host, port=port, log_level=log_level, http=functools.partial(_protocol(), limits.head_timeout),
                            ws="none", timeout_keep_alive=max(1, round(limits.head_timeout)),
                            timeout_graceful_shutdown=max(1, round(limits.drain)) + 2)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: Any = None) -> None:
            end = asyncio.get_running_loop().call_later(limits.drain, app.state.requests.close)
            try:
                await super().shutdown(sockets)
            finally:
                end.cancel()

    return Server(config)


@functools.lru_cache(maxsize=1)
def _protocol() -> type:
    base = require("uvicorn.protocols.http.h11_impl", "serve", why="voxkit serve").H11Protocol

    class TimedProtocol(base):  # type: ignore[misc, valid-type]
        """HTTP/1.1 that waits for the head of a request only so long, of a connection's first and of those that follow."""

        def __init__(self, head_timeout: float, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._head_timeout, self._head_timer = head_timeout, None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch_head()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._between_requests():
                if self._head_timer is None:
                    self._watch_head()
            else:
                self._unwatch_head()

        def _between_requests(self) -> bool:
            return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

        def _watch_head(self) -> None:
            self._head_timer = self.loop.call_later(self._head_timeout, self._late)

        def _unwatch_head(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _late(self) -> None:
            self._head_timer = None
            if self._between_requests():
                self.transport.write(_LATE)
                self.transport.close()

    return TimedProtocol
