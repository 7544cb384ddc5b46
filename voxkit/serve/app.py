"""The HTTP application.

    POST /recognize          JSON: {"features": [[...], ...]} or {"audio": [...], "rate": 16000}; "words": true for word times
    POST /recognize/file     the bytes of an audio file; ?words=true, and no other parameter
    GET  /info, /health, /openapi.json

Answers are {"text", "confidence", "tokens": [{"token", "confidence"}], "words": [...], "audio_duration"}; errors {"error": "..."},
also where there is no such path, method or parameter. There is no /docs: the page that FastAPI has for it loads scripts from elsewhere.
Whether confidences are calibrated is said by "calibrated" of /info and /health.

On the event loop nothing is parsed, decoded or computed, so that /health answers at any time.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Mapping

from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.optional import require
from voxkit.serve import stopping
from voxkit.serve.batcher import Batcher, BatchingConfig
from voxkit.serve.errors import Left, RequestError
from voxkit.serve.inputs import FRAMES_PER_SECOND, Input, Limits, file_from, input_of
from voxkit.serve.recognition import answer, feature_bins, recognize
from voxkit.serve.requests import Body, Requests
from voxkit.serve.schema import Bodies, answers

log = logging.getLogger(__name__)


@dataclass
class ServeConfig:
    """Attributes:
    search: how every request is recognized.
    limits: what is taken.
    batching: how requests are put together.
    calibration: {"temperature": ..., maybe "set": ...} of the confidences, as voxkit.infer.calibration keeps it; None: they are as the
        model gives them.
    """

    search: SearchOptions = field(default_factory=SearchOptions)
    limits: Limits = field(default_factory=Limits)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    calibration: Mapping[str, Any] | None = None


def create_app(recognizer: Recognizer, config: ServeConfig | None = None) -> Any:
    """The application (FastAPI) for a recognizer.

    Raises:
        ValueError: options that cannot be, all at once; MissingPackage: fastapi is not installed.
    """
    fastapi = require("fastapi", "serve", why="voxkit serve")
    responses = require("fastapi.responses", "serve", why="voxkit serve")
    Request, JSONResponse = fastapi.Request, responses.JSONResponse
    config = config or ServeConfig()
    limits = config.limits
    if problems := limits.problems() + config.batching.problems():
        raise ValueError("; ".join(problems))
    bins, calibration = feature_bins(recognizer), config.calibration
    search = config.search if calibration is None else replace(config.search, temperature=calibration["temperature"])
    stopping.watch(recognizer.model)
    batcher = Batcher(lambda key, items, unwanted: recognize(recognizer, items, search, key, unwanted), config.batching)
    requests = Requests(limits)
    bodies = Bodies(bins, limits.max_values, int(limits.max_seconds * FRAMES_PER_SECOND) + 1)
    says = answers()

    @asynccontextmanager
    async def lifespan(app):
        requests.start()
        await batcher.start()
        yield
        requests.stop()
        await batcher.stop()

    app = fastapi.FastAPI(title="voxkit", description=__doc__, lifespan=lifespan, docs_url=None, redoc_url=None,
                          responses={"default": {"description": "Refused, with the reason", "model": says.Refusal}})
    app.state.batcher, app.state.requests, app.state.limits = batcher, requests, limits
    _answer_errors(app)
    _describe(app, bodies)

    async def recognized(request: Any, read: Callable[[bytes], tuple[Input, bool]]) -> Any:
        """The answer to a request: `read` makes of its body (what the model takes, whether words are wanted)."""
        async def work(body: Body) -> Any:
            item, wanted = await requests.read(body, read)
            hypothesis = await batcher.submit((item.kind, wanted), item, item.seconds)
            return JSONResponse(answer(hypothesis, recognizer))

        async with requests.body(request) as body:
            return await requests.within_time(request, work(body))

    def from_json(body: bytes) -> tuple[Input, bool]:
        parsed = bodies.parse(body)
        return input_of(parsed, limits), parsed.words

    @app.get("/health", response_model=says.Health)
    async def health(request: Request) -> Any:
        _parameters(request)
        return {"status": "ok", "requests": batcher.requests, "batches": batcher.batches, "waiting": batcher.waiting,
                "ended": batcher.ended, "calibrated": calibration is not None}

    @app.get("/info", response_model=says.Info)
    async def info(request: Request) -> Any:
        _parameters(request)
        return {"system": type(recognizer.model).__name__, "method": config.search.method, "vocabulary": recognizer.vocabulary.size,
                "feature_bins": bins, "takes": ["audio"] if bins is None else ["audio", "features"],
                "max_seconds": limits.max_seconds, "calibrated": calibration is not None, "temperature": search.temperature,
                "calibrated_on": (calibration or {}).get("set")}

    @app.post("/recognize", response_model=says.Answer, openapi_extra={"requestBody": {"required": True, "content": {"application/json": {
        "schema": {"$ref": "#/components/schemas/Body"}}}}})
    async def recognize_json(request: Request) -> Any:
        _parameters(request)
        return await recognized(request, from_json)

    @app.post("/recognize/file", response_model=says.Answer, openapi_extra={"requestBody": {"required": True, "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}})
    async def recognize_file(request: Request, words: bool = False) -> Any:
        _parameters(request, "words")
        if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
            raise RequestError(415, "a form; send the bytes of the audio file themselves (curl --data-binary @FILE)", closes=True)
        return await recognized(request, lambda body: (file_from(body, limits), words))

    return app


def _describe(app: Any, bodies: Bodies) -> None:
    """/openapi.json with the schema that bodies are parsed by."""
    get_openapi = require("fastapi.openapi.utils", "serve", why="voxkit serve").get_openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = bodies.schema()
            whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            known = whole.setdefault("components", {}).setdefault("schemas", {})
            known |= schema.pop("$defs", {})
            known["Body"] = schema
            for path in whole["paths"].values():  # refusals of parameters have the shape of all others
                for operation in path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                known.pop(name, None)
            app.openapi_schema = whole
        return app.openapi_schema

    app.openapi = described


def _answer_errors(app: Any) -> None:
    """Every error in one shape, whoever found it."""
    responses = require("fastapi.responses", "serve", why="voxkit serve")
    JSONResponse = responses.JSONResponse
    Refused = require("starlette.exceptions", "serve", why="voxkit serve").HTTPException
    Invalid = require("fastapi.exceptions", "serve", why="voxkit serve").RequestValidationError

    @app.exception_handler(RequestError)
    async def refuse(request: Any, error: RequestError) -> Any:
        return JSONResponse({"error": error.message}, error.status, error.headers())

    @app.exception_handler(Left)
    async def left(request: Any, error: Left) -> Any:
        log.info("%s %s: the client left before its answer", request.method, request.url.path)
        return responses.Response(status_code=499)  # nobody reads it

    @app.exception_handler(Refused)
    async def no_such(request: Any, error: Any) -> Any:
        path, allowed = request.url.path, (error.headers or {}).get("Allow")
        what = {404: f"no {path} here; {_PATHS}", 405: f"{request.method} {path}: only {allowed} is taken; {_PATHS}"}
        return JSONResponse({"error": what.get(error.status_code, str(error.detail))}, error.status_code, error.headers)

    @app.exception_handler(Invalid)
    async def invalid(request: Any, error: Any) -> Any:
        given = error.errors()[0]  # there is one parameter, and it is a truth value
        said = f"{given['loc'][-1]}: {str(given['input'])[:40]!r}, and must be true or false, as in ?words=true"
        return JSONResponse({"error": said}, status_code=422)

    @app.exception_handler(Exception)
    async def failed(request: Any, error: Exception) -> Any:
        return JSONResponse({"error": f"the service failed: {type(error).__name__}; its log says more"}, status_code=500)


def _parameters(request: Any, *known: str) -> None:
    """Refuse what stands behind the `?` of an address and would count for nothing."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        path = request.url.path
        raise RequestError(422, f"{unknown[0][:40]}: no such parameter of {path}; there are: {', '.join(known) or 'none'}")


_PATHS = "there are POST /recognize, POST /recognize/file, GET /info, GET /health and, for what they take, GET /openapi.json"
