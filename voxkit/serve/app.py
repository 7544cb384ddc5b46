"""The HTTP application.

    POST /recognize          JSON: {"features": [[...], ...]} or {"audio": [...], "rate": 16000}; "words": true for word times
    POST /recognize/file     the bytes of an audio file; ?words=true, and no other parameter
    GET  /info, /health, /openapi.json

Answers are {"text", "confidence", "tokens": [{"token", "confidence"}], "words": [...], "audio_duration"}; errors {"error": "..."},
also where there is no such path, method or parameter. There is no /docs: the page that FastAPI has for it loads scripts from elsewhere.
Whether confidences are calibrated is said by "calibrated" of /info and /health.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Mapping, Sequence

import torch

from voxkit.batch import Batch, Padded
from voxkit.hypothesis import Hypothesis
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.optional import require
from voxkit.serve.batcher import Batcher, BatchingConfig
from voxkit.serve.errors import RequestError
from voxkit.serve.inputs import Input, Limits, features_from, file_from, parse_json, samples_from


@dataclass
class ServeConfig:
    """Attributes:
    search: how every request is recognised.
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
    """The application (FastAPI) for a recogniser.

    Raises:
        ValueError: options that cannot be, all at once; MissingPackage: fastapi is not installed.
    """
    fastapi = require("fastapi", "serve", why="voxkit serve")
    responses = require("fastapi.responses", "serve", why="voxkit serve")
    Request, JSONResponse = fastapi.Request, responses.JSONResponse
    config = config or ServeConfig()
    if problems := config.limits.problems() + config.batching.problems():
        raise ValueError("; ".join(problems))
    bins, calibration = feature_bins(recognizer), config.calibration
    search = config.search if calibration is None else replace(config.search, temperature=calibration["temperature"])
    batcher = Batcher(lambda words, items: recognize(recognizer, items, search, words), config.batching)

    @asynccontextmanager
    async def lifespan(app):
        await batcher.start()
        yield
        await batcher.stop()

    app = fastapi.FastAPI(title="voxkit", description=__doc__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.batcher = batcher
    _answer_errors(app)

    @app.get("/health")
    async def health(request: Request) -> dict:
        _parameters(request)
        return {"status": "ok", "requests": batcher.requests, "batches": batcher.batches, "calibrated": calibration is not None}

    @app.get("/info")
    async def info(request: Request) -> dict:
        _parameters(request)
        return {"system": type(recognizer.model).__name__, "method": config.search.method, "vocabulary": recognizer.vocabulary.size,
                "feature_bins": bins, "takes": ["audio"] if bins is None else ["audio", "features"],
                "max_seconds": config.limits.max_seconds, "calibrated": calibration is not None, "temperature": search.temperature,
                "calibrated_on": (calibration or {}).get("set")}

    @app.post("/recognize", openapi_extra=_BODY, responses=_ERRORS)
    async def recognize_json(request: Request) -> JSONResponse:
        _parameters(request)
        body = parse_json(await _read(request, config.limits))
        unknown = sorted(set(body) - {"features", "audio", "rate", "words"})
        if unknown:
            raise RequestError(422, f"{unknown[0]}: no such field; there are: features, audio, rate, words")
        if ("features" in body) == ("audio" in body):
            raise RequestError(422, "send either features or audio")
        words = body.get("words", False)
        if not isinstance(words, bool):
            raise RequestError(422, "words: true or false")
        if "audio" in body:
            item = samples_from(body["audio"], body.get("rate", 16000), config.limits)
        elif bins is None:
            raise RequestError(422, "features: this model takes audio alone, it has a pretrained encoder in front")
        else:
            item = features_from(body["features"], bins, config.limits)
        return JSONResponse(answer(await batcher.submit((item.kind, words), item), recognizer))

    @app.post("/recognize/file", openapi_extra=_FILE, responses=_ERRORS)
    async def recognize_file(request: Request, words: bool = False) -> JSONResponse:
        _parameters(request, "words")
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise RequestError(415, "a form; send the bytes of the audio file themselves (curl --data-binary @FILE)")
        item = file_from(await _read(request, config.limits), config.limits)
        return JSONResponse(answer(await batcher.submit((item.kind, words), item), recognizer))

    return app


def _answer_errors(app: Any) -> None:
    """Every error in one shape, whoever found it."""
    JSONResponse = require("fastapi.responses", "serve", why="voxkit serve").JSONResponse
    Refused = require("starlette.exceptions", "serve", why="voxkit serve").HTTPException
    Invalid = require("fastapi.exceptions", "serve", why="voxkit serve").RequestValidationError

    @app.exception_handler(RequestError)
    async def refuse(request: Any, error: RequestError) -> Any:
        return JSONResponse({"error": error.message}, status_code=error.status)

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


def feature_bins(recognizer: Recognizer) -> int | None:
    """Values per frame that the model takes; None where it takes audio alone."""
    fbank = getattr(recognizer.model.front_end, "fbank", None)
    return None if fbank is None else fbank.num_bins


def recognize(recognizer: Recognizer, items: Sequence[Input], options: SearchOptions, key: tuple[str, bool]) -> list[Hypothesis]:
    """Inputs of one kind → hypotheses, in order; key is (kind, words wanted)."""
    kind, words = key
    batch = Batch(ids=[f"request {i}" for i in range(len(items))], **{kind: Padded.of([item.values for item in items])})
    return recognizer.recognize(batch, SearchOptions(**{**vars(options), "words": words or not hasattr(recognizer.model, "predict")}))


def answer(hypothesis: Hypothesis, recognizer: Recognizer) -> dict:
    """The JSON of a result. A parallel decoder gives a confidence per token, other models per word; the whole is their geometric mean."""
    out = hypothesis.to_json()
    pieces = recognizer.vocabulary.pieces
    out["tokens"] = [{"token": pieces[t], "confidence": round(c, 4)} for t, c in zip(hypothesis.tokens, hypothesis.token_confidences)]
    found = hypothesis.token_confidences or [w.confidence for w in hypothesis.words]
    whole = torch.tensor(found, dtype=torch.float64).clamp(min=1e-12).log().mean().exp().item() if found else 0.0
    return {"text": out.pop("text"), "confidence": round(whole, 4), **out}


def _parameters(request: Any, *known: str) -> None:
    """Refuse what stands behind the `?` of an address and would count for nothing."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        path = request.url.path
        raise RequestError(422, f"{unknown[0][:40]}: no such parameter of {path}; there are: {', '.join(known) or 'none'}")


async def _read(request: Any, limits: Limits) -> bytes:
    """The body, given up as soon as it is too large."""
    too_large = RequestError(413, f"the body is larger than {limits.max_bytes} bytes; send shorter pieces")
    if int(request.headers.get("content-length") or 0) > limits.max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.max_bytes:
            raise too_large
    return bytes(body)


_PATHS = "there are POST /recognize, POST /recognize/file, GET /info, GET /health and, for what they take, GET /openapi.json"
_ERRORS: dict[int | str, dict[str, Any]] = {"default": {"description": "Refused, with the reason", "content": {"application/json": {
    "schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}}}
_FILE = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
_FEATURES = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object", "properties": {
    "features": _FEATURES, "audio": {"type": "array", "items": {"type": "number"}}, "rate": {"type": "integer", "default": 16000},
    "words": {"type": "boolean", "default": False}}}}}}}
