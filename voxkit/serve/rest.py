"""One utterance by HTTP: /recognize, /transcribe, /recognize/file, and what the service says of itself: /health, /info, /openapi.json."""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

import logging
from collections.abc import Callable
from typing import Any

from voxkit.optional import require
from voxkit.serve.backend import Asked, answer
from voxkit.serve.errors import Left, RequestError
from voxkit.serve.inputs import FRAMES_PER_SECOND, Input, file_from, input_of
from voxkit.serve.requests import Body
from voxkit.serve.schema import Bodies, answers
from voxkit.serve.service import Service

log = logging.getLogger(__name__)
_PATHS = ("there are POST /recognize, POST /recognize/file, POST /transcribe, POST /v1/audio/transcriptions, GET /info, GET /health, the "
          "WebSocket /v1/listen and, for what they take, GET /openapi.json")


def add(app: Any, service: Service) -> None:
    """Put the paths into an application."""
    fastapi = require("fastapi", "serve", why="voxkit serve")
    Request, JSONResponse = fastapi.Request, require("fastapi.responses", "serve", why="voxkit serve").JSONResponse
    backend, limits, batcher, requests = service.backend, service.config.limits, service.batcher, service.requests
    bodies = Bodies(backend.bins, limits.max_values, int(limits.max_seconds * FRAMES_PER_SECOND) + 1)
    says = answers()
    _answer_errors(app)
    _describe(app, bodies)
    refusals: dict = {"default": {"description": "Refused, with the reason", "model": says.Refusal}}
    calibrated, temperature = backend.calibration is not None, float((backend.calibration or {}).get("temperature", 1.0))

    async def recognized(request: Any, read: Callable[[bytes], tuple[Input, bool]]) -> Any:
        """The answer to a request: `read` makes of its body (what the model takes, whether words are wanted)."""
        async def work(body: Body) -> Any:
            item, wanted = await requests.read(body, read)
            hypothesis = await batcher.submit(Asked(item.kind, wanted), item, item.seconds)
            return JSONResponse(answer(hypothesis, backend.vocabulary))

        async with requests.body(request) as body:
            return await requests.within_time(request, work(body))

    def from_json(body: bytes) -> tuple[Input, bool]:
        parsed = bodies.parse(body)
        return input_of(parsed, limits), parsed.words

    @app.get("/health", response_model=says.Health, responses=refusals)
    async def health(request: Request) -> Any:
        _parameters(request)
        return {"status": "ok", "requests": batcher.requests, "batches": batcher.batches, "waiting": batcher.waiting,
                "ended": batcher.ended, "calibrated": calibrated, "sessions": service.sessions.count}

    @app.get("/info", response_model=says.Info, responses=refusals)
    async def info(request: Request) -> Any:
        _parameters(request)
        return {"system": backend.name, "method": backend.method, "vocabulary": backend.vocabulary.size,
                "feature_bins": backend.bins, "takes": ["audio"] if backend.bins is None else ["audio", "features"],
                "max_seconds": limits.max_seconds, "calibrated": calibrated, "temperature": temperature,
                "calibrated_on": (backend.calibration or {}).get("set"), "streaming": backend.streaming is not None}

    takes = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}}

    @app.post("/recognize", response_model=says.Answer, responses=refusals, openapi_extra=takes)
    @app.post("/transcribe", response_model=says.Answer, responses=refusals, openapi_extra=takes)
    async def recognize_json(request: Request) -> Any:
        _parameters(request)
        return await recognized(request, from_json)

    @app.post("/recognize/file", response_model=says.Answer, responses=refusals, openapi_extra={"requestBody": {
        "required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}})
    async def recognize_file(request: Request, words: bool = False) -> Any:
        _parameters(request, "words")
        if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
            raise RequestError(415, "a form; send the bytes of the audio file themselves (curl --data-binary @FILE)", closes=True)
        return await recognized(request, lambda body: (file_from(body, limits), words))


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
    """Every error in one shape, whoever found it; on OpenAI's paths in theirs."""
    responses = require("fastapi.responses", "serve", why="voxkit serve")
    Refused = require("starlette.exceptions", "serve", why="voxkit serve").HTTPException
    Invalid = require("fastapi.exceptions", "serve", why="voxkit serve").RequestValidationError

    def said(request: Any, message: str, status: int, headers: Any = None) -> Any:
        return responses.JSONResponse(refusal(request.url.path, message, status), status, headers)

    @app.exception_handler(RequestError)
    async def refuse(request: Any, error: RequestError) -> Any:
        return said(request, error.message, error.status, error.headers())

    @app.exception_handler(Left)
    async def left(request: Any, error: Left) -> Any:
        log.info("%s %s: the client left before its answer", request.method, request.url.path)
        return responses.Response(status_code=499)  # nobody reads it

    @app.exception_handler(Refused)
    async def no_such(request: Any, error: Any) -> Any:
        path, allowed = request.url.path, (error.headers or {}).get("Allow")
        what = {404: f"no {path} here; {_PATHS}", 405: f"{request.method} {path}: only {allowed} is taken; {_PATHS}"}
        return said(request, what.get(error.status_code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(Invalid)
    async def invalid(request: Any, error: Any) -> Any:
        given = error.errors()[0]  # there is one parameter, and it is a truth value
        return said(request, f"{given['loc'][-1]}: {str(given['input'])[:40]!r}, and must be true or false, as in ?words=true", 422)

    @app.exception_handler(Exception)
    async def failed(request: Any, error: Exception) -> Any:
        return said(request, f"the service failed: {type(error).__name__}; its log says more", 500)


def refusal(path: str, message: str, status: int) -> dict[str, Any]:
    """The JSON of an error, in the shape that clients of a path know."""
    if not path.startswith("/v1/"):
        return {"error": message}
    kind = "server_error" if status >= 500 else "authentication_error" if status == 401 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _parameters(request: Any, *known: str) -> None:
    """Refuse what stands behind the `?` of an address and would count for nothing."""
    unknown = sorted(set(request.query_params) - set(known) - {"token"})
    if unknown:
        path = request.url.path
        raise RequestError(422, f"{unknown[0][:40]}: no such parameter of {path}; there are: {', '.join(known) or 'none'}")
