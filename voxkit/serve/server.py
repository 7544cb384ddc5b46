"""An application behind a socket: uvicorn, with limits that it lacks.

A head that is sent by halves ends after `head_timeout`; a server told to stop (SIGTERM) lets live sessions come to their end and refuses
what is not answered within `drain`; a WebSocket whose client does not read its end is cut off.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
from typing import Any

from voxkit.optional import require
from voxkit.serve.grpc_service import GrpcServer
from voxkit.serve.live.listen import MOST_BYTES

_CLOSE = 5.0  # seconds for the end of a WebSocket
_TOKEN = re.compile(r"([?&]token=)[^&\s]*")
_WHY = json.dumps({"error": "the head of the request was not in time"}).encode()
_LATE = (b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
         b"Content-Length: %d\r\n\r\n%s" % (len(_WHY), _WHY))


def make_server(app: Any, *, host: str = "127.0.0.1", port: int = 8000, log_level: str = "info", certificate: str | None = None,
                key: str | None = None, grpc_port: int | None = None) -> Any:
    """A uvicorn server for an application of `create_app`; `.run()` it.

    Args:
        certificate, key: files in PEM, for TLS.
        grpc_port: where gRPC is served beside it; None: nowhere. `.grpc_port` of the server says where it is, of 0 too.
    """
    uvicorn = require("uvicorn", "serve", why="voxkit serve")
    service = app.state.service
    limits = service.config.limits
    config = uvicorn.Config(app, host=host, port=port, log_level=log_level, http=functools.partial(_protocol(), limits.head_timeout),
                            ws=_socket_protocol(), ws_max_size=MOST_BYTES, ws_ping_timeout=None, ws_per_message_deflate=False,
                            timeout_keep_alive=max(1, round(limits.head_timeout)), ssl_certfile=certificate, ssl_keyfile=key,
                            timeout_graceful_shutdown=max(1, round(limits.drain)) + 2)
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).addFilter(_hide_tokens)

    grpc = None if grpc_port is None else GrpcServer(service, f"{host}:{grpc_port}", certificate, key)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            if grpc is not None:
                await grpc.start()
            await super().startup(sockets)

        async def shutdown(self, sockets: Any = None) -> None:
            end = asyncio.get_running_loop().call_later(limits.drain, service.requests.close)
            try:
                if grpc is not None:
                    await grpc.drain()
                await service.sessions.drain(limits.drain)
                if grpc is not None:
                    await grpc.stop(1.0)
                await super().shutdown(sockets)
            finally:
                end.cancel()

        @property
        def grpc_port(self) -> int | None:
            """Where gRPC is."""
            return grpc and grpc.port

    return Server(config)


def _hide_tokens(record: logging.LogRecord) -> bool:
    """Addresses are logged, tokens in them are not."""
    if isinstance(record.args, tuple):
        record.args = tuple(_TOKEN.sub(r"\1...", value) if isinstance(value, str) else value for value in record.args)
    return True


@functools.lru_cache(maxsize=1)
def _socket_protocol() -> type:
    base = require("uvicorn.protocols.websockets.websockets_sansio_impl", "serve", why="voxkit serve").WebSocketsSansIOProtocol

    class BoundedProtocol(base):  # type: ignore[misc, valid-type]
        """A WebSocket whose connection ends soon after its session, whether or not the client reads that it does."""

        def on_task_complete(self, task: Any) -> None:
            super().on_task_complete(task)
            self.loop.call_later(_CLOSE, self.transport.abort)

    return BoundedProtocol


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
            if self.transport.get_protocol() is not self:  # a WebSocket now
                return
            if self._between_requests():
                if self._head_timer is None:
                    self._watch_head()
            else:
                self._unwatch_head()

        def handle_websocket_upgrade(self, event: Any) -> None:
            self._unwatch_head()
            super().handle_websocket_upgrade(event)

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
