"""OpenAI's REST for transcripts: POST /v1/audio/transcriptions, a form with a file.

Taken: `file`, `response_format` (json, text, srt, vtt, verbose_json), `timestamp_granularities[]` (word, segment), `stream` (server-sent
events), `keywords[]` (phrases to favor). `model`, `language`, `prompt`, `temperature`, `include[]`, `chunking_strategy` are OpenAI's and
change nothing: the service has one model. Other fields are refused.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations of the functions below, whose types are imported inside.

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from voxkit.align.formats import to_srt, to_vtt
from voxkit.hypothesis import Hypothesis, Word
from voxkit.optional import require
from voxkit.serve.backend import Asked
from voxkit.serve.errors import RequestError
from voxkit.serve.inputs import Input, Limits, file_from
from voxkit.serve.live.errors import StreamError
from voxkit.serve.live.options import USUAL_BOOST, check_phrases
from voxkit.serve.requests import Body
from voxkit.serve.service import Service

PATH = "/v1/audio/transcriptions"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_IGNORED = ("model", "language", "languages", "prompt", "temperature", "include", "chunking_strategy")
_FIELDS = 256  # of a form
_FORM = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
    "type": "object", "required": ["file"], "additionalProperties": False, "properties": {
        "file": {"type": "string", "format": "binary"}, "model": {"type": "string"}, "language": {"type": "string"},
        "prompt": {"type": "string"}, "temperature": {"type": "number"}, "stream": {"type": "boolean"},
        "response_format": {"type": "string", "enum": list(FORMATS)},
        "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}},
        "keywords[]": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 100}}}}}}}}


@dataclass
class Form:
    """What a client asks for."""

    input: Input
    format: str
    words: bool
    segments: bool
    stream: bool
    language: str
    phrases: tuple[str, ...]


def add(app: Any, service: Service) -> None:
    """Put the path into an application."""
    fastapi = require("fastapi", "serve", why="voxkit serve")
    responses = require("fastapi.responses", "serve", why="voxkit serve")
    Request = fastapi.Request
    backend, limits, requests = service.backend, service.config.limits, service.requests
    answered = {"200": {"content": {kind: {} for kind in ("application/json", "text/plain", "text/event-stream")}},
                "default": {"description": "Refused, with the reason"}}

    @app.post(PATH, response_model=None, responses=answered, openapi_extra=_FORM)
    async def transcriptions(request: Request) -> Any:
        kind = request.headers.get("content-type", "")

        def read(body: bytes) -> Form:
            form = form_from(body, kind, limits)
            if form.phrases:
                try:
                    backend.check_phrases(form.phrases, USUAL_BOOST)
                except ValueError as error:
                    raise RequestError(400, f"keywords: {error}") from error
            return form

        async def work(body: Body) -> tuple[Form, Hypothesis]:
            form = await requests.read(body, read)
            return form, await service.batcher.submit(Asked("audio", True, form.phrases, USUAL_BOOST), form.input, form.input.seconds)

        async with requests.body(request) as body:
            form, hypothesis = await requests.within_time(request, work(body))
        if form.stream:
            return responses.StreamingResponse(_events(hypothesis), media_type="text/event-stream")
        if form.format in ("json", "verbose_json"):
            return responses.JSONResponse({"text": hypothesis.text} if form.format == "json" else verbose(hypothesis, form))
        return responses.PlainTextResponse(_text(hypothesis, form.format))


def form_from(body: bytes, content_type: str, limits: Limits) -> Form:
    """The form in a body.

    Raises:
        RequestError: 400 no form, a field that is none or has a value that it cannot have; of the file as `file_from`.
    """
    fields, files = _parse(body, content_type)
    known = {"file", "response_format", "timestamp_granularities", "stream", "keywords", *_IGNORED}
    for name in fields:
        if name not in known:
            raise RequestError(400, f"{name[:40]}: no such field; there are: {', '.join(sorted(known))}")
    if len(files.get("file", [])) != 1 or len(files) != 1:
        raise RequestError(400, "send one file, in the field `file`")

    def one(name: str, default: str) -> str:
        values = fields.get(name, [default])
        if len(values) > 1:
            raise RequestError(400, f"{name}: given {len(values)} times")
        return values[0]

    form, stream = one("response_format", "json"), one("stream", "false").lower()
    if form not in FORMATS:
        raise RequestError(400, f"response_format: {form[:40]!r} is none of {', '.join(FORMATS)}")
    if stream not in ("true", "false"):
        raise RequestError(400, f"stream: {stream[:40]!r} is not true or false")
    granularities = fields.get("timestamp_granularities", [])
    if any(value not in ("word", "segment") for value in granularities):
        raise RequestError(400, "timestamp_granularities: each must be word or segment")
    if granularities and form != "verbose_json":
        raise RequestError(400, "timestamp_granularities: they need response_format verbose_json")
    try:
        phrases = check_phrases(fields.get("keywords", []), "keywords")
    except StreamError as error:
        raise RequestError(400, error.message) from error
    return Form(file_from(files["file"][0], limits), form, "word" in granularities, "segment" in granularities or not granularities,
                stream == "true", one("language", ""), phrases)


def verbose(hypothesis: Hypothesis, form: Form) -> dict[str, Any]:
    """OpenAI's verbose_json; the utterance is one segment."""
    text, tokens, raw = hypothesis.text, hypothesis.tokens, hypothesis.text.encode()
    out: dict[str, Any] = {"task": "transcribe", "language": form.language or "und", "duration": round(hypothesis.audio_duration, 3),
                           "text": text}
    if form.segments:
        out["segments"] = [{"id": 0, "seek": 0, "start": 0.0, "end": out["duration"], "text": text, "tokens": list(tokens),
                            "temperature": 0.0, "avg_logprob": round(hypothesis.score / max(1, len(tokens)), 4), "no_speech_prob": 0.0,
                            "compression_ratio": round(len(raw) / len(zlib.compress(raw)), 4)}]
    if form.words:
        out["words"] = [{"word": w.word, "start": round(w.start, 3), "end": round(w.end, 3)} for w in hypothesis.words]
    return out


def _text(hypothesis: Hypothesis, form: str) -> str:
    if form == "text":
        return hypothesis.text + "\n"
    whole = [Word(hypothesis.text, 0.0, hypothesis.audio_duration, 1.0)] if hypothesis.text else []
    timed = Hypothesis(hypothesis.text, hypothesis.words or whole, audio_duration=hypothesis.audio_duration)
    return (to_srt if form == "srt" else to_vtt)({"audio": timed})


def _events(hypothesis: Hypothesis) -> Iterator[str]:
    for event in ({"type": "transcript.text.delta", "delta": hypothesis.text}, {"type": "transcript.text.done", "text": hypothesis.text}):
        yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def _parse(body: bytes, content_type: str) -> tuple[dict[str, list[str]], dict[str, list[bytes]]]:
    """multipart/form-data → fields and files by name; `name[]` counts as `name`."""
    multipart = require("python_multipart.multipart", "serve", why="forms")
    if not content_type.strip().lower().startswith("multipart/form-data"):
        raise RequestError(400, "send multipart/form-data with the field `file`")
    fields: dict[str, list[str]] = {}
    files: dict[str, list[bytes]] = {}

    def name_of(raw: bytes | None) -> str:
        if len(fields) + sum(map(len, fields.values())) + sum(map(len, files.values())) > _FIELDS:
            raise RequestError(400, f"a form of more than {_FIELDS} fields")
        return (raw or b"").decode("utf-8", "replace").removesuffix("[]")

    def on_field(field: Any) -> None:
        fields.setdefault(name_of(field.field_name), []).append((field.value or b"").decode("utf-8", "replace"))

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        files.setdefault(name_of(file.field_name), []).append(file.file_object.read())

    try:
        parser = multipart.create_form_parser({"Content-Type": content_type.encode("latin-1")}, on_field, on_file,
                                              config={"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_BODY_SIZE": len(body) + 1})
        parser.write(body)
        parser.finalize()
    except RequestError:
        raise
    except Exception as error:  # python-multipart has several classes, and ValueError, for what is no form
        raise RequestError(400, f"the form cannot be read: {error}") from error
    return fields, files
