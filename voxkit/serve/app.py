"""The application of the service: a model, and every protocol that reaches it by HTTP. docs/serving.md describes them.

    POST /recognize          JSON: {"features": [[...], ...]} or {"audio": [...], "rate": 16000}; "words": true for word times
    POST /transcribe         the same
    POST /recognize/file     the bytes of an audio file; ?words=true, and no other parameter
    POST /v1/audio/transcriptions   OpenAI's form
    GET  /v1/listen          a WebSocket: live recognition; in others' words /v1/realtime (OpenAI's) and /vosk
    GET  /                   the demo page
    GET  /info, /health, /live, /ready, /metrics, /openapi.json

Answers are {"text", "confidence", "tokens": [{"token", "confidence"}], "words": [...], "audio_duration"}; errors {"error": "..."},
also where there is no such path, method or parameter. There is no /docs: the page that FastAPI has for it loads scripts from elsewhere.
Whether confidences are calibrated is said by "calibrated" of /info and /health.

On the event loop nothing is parsed, decoded or computed, so that /health answers at any time.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

from contextlib import asynccontextmanager
from typing import Any

from voxkit.optional import require
from voxkit.serve import demo, openai_rest, probes, rest
from voxkit.serve.backend import Backend
from voxkit.serve.live.listen import listen
from voxkit.serve.realtime import realtime
from voxkit.serve.service import ServeConfig, make_service
from voxkit.serve.vosk import vosk


def create_app(backend: Backend, config: ServeConfig | None = None) -> Any:
    """The application (FastAPI) for a model.

    Raises:
        ValueError: options that cannot be, all at once; MissingPackage: fastapi is not installed.
    """
    fastapi = require("fastapi", "serve", why="voxkit serve")
    service = make_service(backend, config)
    WebSocket = fastapi.WebSocket

    @asynccontextmanager
    async def lifespan(app):
        await service.start()
        yield
        await service.stop()

    app = fastapi.FastAPI(title="voxkit", description=__doc__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    rest.add(app, service)
    openai_rest.add(app, service)
    probes.add(app, service)
    demo.mount(app)

    @app.websocket("/v1/listen")
    async def live(socket: WebSocket) -> None:
        await listen(socket, service.sessions, service.config.tokens)

    @app.websocket("/v1/realtime")
    async def openai_live(socket: WebSocket) -> None:
        await realtime(socket, service.sessions, service.config.tokens)

    @app.websocket("/vosk")
    async def vosk_live(socket: WebSocket) -> None:
        await vosk(socket, service.sessions, service.config.tokens)

    app.add_middleware(probes.Gate, service=service)
    return app
