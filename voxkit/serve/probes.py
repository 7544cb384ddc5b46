"""What watches the service, and what stands before it: /live, /ready, /metrics, and tokens."""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

import json
from typing import Any

from voxkit.optional import require
from voxkit.serve.rest import refusal
from voxkit.serve.service import Service

_OPEN = ("/live", "/ready", "/metrics", "/")  # to everybody
_COUNTED = ("/recognize", "/recognize/file", "/transcribe", "/v1/audio/transcriptions")


def add(app: Any, service: Service) -> None:
    """Put the paths into an application."""
    responses = require("fastapi.responses", "serve", why="voxkit serve")
    sessions, metrics = service.sessions, service.metrics

    @app.get("/live", include_in_schema=False)
    async def live() -> Any:
        """Whether the process works; one that does not is to be started anew."""
        works = sessions.host.alive and service.batcher.alive
        return responses.PlainTextResponse("live\n" if works else "stuck\n", 200 if works else 503)

    @app.get("/ready", include_in_schema=False)
    async def ready() -> Any:
        """Whether it takes sessions."""
        why = "stopping" if sessions.stopping else "full" if sessions.full else None
        return responses.PlainTextResponse(f"{why or 'ready'}\n", 503 if why else 200)

    @app.get("/metrics", include_in_schema=False)
    async def figures() -> Any:
        """Prometheus' text format."""
        return responses.Response(metrics.page(), media_type=metrics.content_type)


class Gate:
    """In front of the application: asks HTTP requests for their token, and counts them. WebSockets are asked once they are upgraded."""

    def __init__(self, app: Any, service: Service) -> None:
        self.app, self.tokens, self.metrics = app, service.config.tokens, service.metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"]

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start" and path in _COUNTED:
                self.metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        if path not in _OPEN and not path.startswith("/static/") and not self._allowed(scope):
            body = json.dumps(refusal(path, "no token, or a wrong one; send the header Authorization: Bearer TOKEN", 401)).encode()
            await counted({"type": "http.response.start", "status": 401, "headers": [
                (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"www-authenticate", b"Bearer"),
                (b"connection", b"close")]})
            return await send({"type": "http.response.body", "body": body})
        return await self.app(scope, receive, counted)

    def _allowed(self, scope: Any) -> bool:
        header = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), None)
        return self.tokens.allow(header, (), scope["query_string"].decode("latin-1"))
