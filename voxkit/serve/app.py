"""The application of the service: a model, and every protocol that reaches it by HTTP. docs/serving.md describes them.

    POST /recognize          JSON: {"features": [[...], ...]} or {"audio": [...], "rate": 16000}; "words": true for word times
    POST /transcribe         the same
    POST /recognize/file     the bytes of an audio file; ?words=true, and no other parameter
    POST /v1/audio/transcriptions   OpenAI's form
    GET  /v1/listen          a WebSocket: live recognition
    GET  /                   the demo page
    GET  /info, /health, /live, /ready, /metrics, /openapi.json

Answers are {"text", "confidence", "tokens": [{"token", "confidence"}], "words": [...], "audio_duration"}; errors {"error": "..."},
also where there is no such path, method or parameter. There is no /docs: the page that FastAPI has for it loads scripts from elsewhere.
Whether confidences are calibrated is said by "calibrated" of /info and /health.

On the event loop nothing is parsed, decoded or computed, so that /health answers at any time.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from voxkit.optional import require
from voxkit.serve import demo, openai_rest, probes, rest
from voxkit.serve.backend import Backend
from voxkit.serve.batcher import Batcher, BatchingConfig
from voxkit.serve.inputs import Limits
from voxkit.serve.live.host import Host, HostLimits
from voxkit.serve.live.listen import listen
from voxkit.serve.live.segments import SegmentHost
from voxkit.serve.live.sessions import LiveLimits, Sessions
from voxkit.serve.live.streaming import StreamingHost
from voxkit.serve.metrics import Metrics
from voxkit.serve.requests import Requests
from voxkit.serve.tokens import Tokens


@dataclass
class ServeConfig:
    """Attributes:
    limits: what is taken. batching: how requests are put together. live: what live sessions may do.
    tokens: who may ask.
    """

    limits: Limits = field(default_factory=Limits)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    live: LiveLimits = field(default_factory=LiveLimits)
    tokens: Tokens = field(default_factory=Tokens)


@dataclass
class Service:
    """What every protocol works with: the model, what stands before it, and who is let in."""

    backend: Backend
    config: ServeConfig
    batcher: Batcher
    requests: Requests
    sessions: Sessions
    metrics: Metrics

    async def start(self) -> None:
        """Begin; on the loop of the requests."""
        self.requests.start()
        await self.batcher.start()
        await self.sessions.start()

    async def stop(self) -> None:
        """Let go of everything."""
        self.requests.stop()
        await self.sessions.stop()
        await self.batcher.stop()


def make_service(backend: Backend, config: ServeConfig | None = None) -> Service:
    """The parts of a service.

    Raises:
        ValueError: options that cannot be, all at once.
    """
    config = config or ServeConfig()
    if problems := config.limits.problems() + config.batching.problems() + config.live.problems():
        raise ValueError("; ".join(problems))
    metrics = Metrics()
    batcher = Batcher(lambda asked, items, unwanted: backend.recognize(items, asked, unwanted), config.batching)
    limits = HostLimits(utterance=config.limits.max_seconds)
    host: Host = StreamingHost(backend.streaming, limits, metrics) if backend.streaming is not None else SegmentHost(
        backend, batcher, limits, metrics)
    metrics.watch("voxkit_waiting", "Utterances that wait for the model", lambda: batcher.waiting)
    metrics.watch("voxkit_round_now_seconds", "Time that a slice of all live sessions takes now", lambda: host.delay)
    return Service(backend, config, batcher, Requests(config.limits), Sessions(host, config.live, metrics, backend.name), metrics)


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

    app.add_middleware(probes.Gate, service=service)
    return app
