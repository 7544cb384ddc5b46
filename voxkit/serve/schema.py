"""What the service takes and answers, as pydantic models: they parse bodies, and the description at /openapi.json is made of them."""

# No `from __future__ import annotations` here: pydantic reads the annotations of classes that are made inside a function.

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Optional, Union

from voxkit.optional import require
from voxkit.serve.errors import RequestError

LOWEST_RATE, HIGHEST_RATE = 4000, 192_000  # samples per second
MAX_ENERGY = 1e6  # of a log-mel energy, in size
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS = ("audio", "features")


@dataclass
class Request:
    """A body of POST /recognize: `values` are samples, or rows of features."""

    kind: str
    values: list
    rate: int
    words: bool


class Bodies:
    """The bodies of POST /recognize.

    Args:
        bins: values per frame of features; None where the model takes audio alone.
        max_values: numbers in a body.
        max_frames: of features.
    """

    def __init__(self, bins: Optional[int], max_values: int, max_frames: int) -> None:
        pydantic = require("pydantic", "serve", why="voxkit serve")
        self.bins, self.max_values, self.max_frames = bins, max_values, max_frames
        closed = pydantic.ConfigDict(extra="forbid", strict=True)
        sample = Annotated[float, pydantic.Field(ge=-1, le=1, allow_inf_nan=False)]
        samples = Annotated[list[sample], pydantic.FailFast(), pydantic.Field(
            min_length=1, description="samples of one channel; divide 16-bit ones by 32768")]
        rate = Annotated[float, pydantic.Field(ge=LOWEST_RATE, le=HIGHEST_RATE, multiple_of=1, description="samples per second")]
        words = Annotated[bool, pydantic.Field(description="also answer word times")]
        audio = pydantic.create_model("Audio", __config__=closed, audio=(samples, ...), rate=(rate, 16000), words=(words, False))
        takes: Any = Annotated[audio, pydantic.Tag("audio")]
        if bins is not None:
            energy = Annotated[float, pydantic.Field(gt=-MAX_ENERGY, lt=MAX_ENERGY, allow_inf_nan=False)]
            frame = Annotated[list[energy], pydantic.FailFast(), pydantic.Field(min_length=bins, max_length=bins)]
            frames = Annotated[list[frame], pydantic.FailFast(), pydantic.Field(
                min_length=1, description=f"log-mel energies, 100 frames per second, {bins} per frame")]
            features = pydantic.create_model("Features", __config__=closed, features=(frames, ...), words=(words, False))
            takes = Annotated[Union[takes, Annotated[features, pydantic.Tag("features")]], pydantic.Discriminator(_kind)]
        self._adapter = pydantic.TypeAdapter(takes)
        self._invalid = pydantic.ValidationError

    def parse(self, body: bytes) -> Request:
        """The request that a body holds. It needs memory in proportion to the body, and holds the interpreter for about 6 ms a megabyte.

        Raises:
            RequestError: 400 no JSON object; 413 too many numbers or frames; 422 anything else, with the field and the place.
        """
        self._count(body)
        try:
            found = self._adapter.validate_json(body)
        except self._invalid as error:
            raise self._refusal(error.errors(include_url=False), body) from None
        except TypeError:  # no object, where the kind was looked for
            raise _no_object(body) from None
        kind = _kind(vars(found))
        return Request(kind, getattr(found, kind), int(getattr(found, "rate", 16000)), found.words)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the body; its `$defs` are to become #/components/schemas."""
        return self._adapter.json_schema(ref_template="#/components/schemas/{model}")

    def _count(self, body: bytes) -> None:
        """Refuse what would take much more memory than it is long: two bytes can be a number, three a list."""
        if body.count(b",") > self.max_values:
            raise RequestError(413, f"the body holds more than {self.max_values} numbers; send shorter pieces, or an audio file to "
                                    "/recognize/file")
        most = 2 * self.max_frames + 100  # a few too many are counted, and named, where they are parsed
        if body.count(b"[") > most or body.count(b"{") > most:
            raise RequestError(413, f"the body holds more than {most} lists or objects; send shorter pieces")

    def _refusal(self, errors: list[dict[str, Any]], body: bytes) -> RequestError:
        error = min(errors, key=lambda e: e["type"] != "extra_forbidden")  # an unknown field is the reason why another is missing
        kind, said, value = error["type"], error["ctx"] if "ctx" in error else {}, error.get("input")
        where = list(error["loc"][1:] if error["loc"][:1] and error["loc"][0] in _KINDS and self.bins is not None else error["loc"])
        if kind == "json_invalid":
            if _HALF_PAIR.search(body) and ("surrogate" in said["error"] or "hex escape" in said["error"]):
                return RequestError(422, f"a text in the body holds half a surrogate pair, which is no character: {said['error']}")
            return RequestError(400, f"the body is not JSON: {said['error']}")
        if kind in ("model_type", "model_attributes_type", "union_tag_not_found"):
            return _no_object(body)
        if kind == "extra_forbidden":
            name = str(where[0])
            if name == "features" and self.bins is None:
                return RequestError(422, "features: this model takes audio alone, it has a pretrained encoder in front")
            if name == "rate":
                return RequestError(422, "rate: it belongs to audio; features have 100 frames per second")
            return RequestError(422, "send either features or audio" if name in _KINDS else
                                f"{name[:40]}: no such field; there are: {'features, ' if self.bins else ''}audio, rate, words")
        if kind == "missing":
            return RequestError(422, "send either features or audio" if self.bins else "send audio")
        if kind in ("too_short", "too_long") and len(where) == 2:
            why = self._width(where[1], said.get("actual_length"))
        else:
            what = {"audio": self._audio, "features": self._features, "rate": _rate, "words": _words}[str(where[0])]
            why = what(where, kind, value)
        message = f"{_place(where)}: {why}"
        return RequestError(422, message)

    def _width(self, row: int, found: Optional[int]) -> str:
        what = f"{found} values" if found is not None else "too many values"
        ragged = f" where features[0] has {self.bins}: ragged" if row else ""
        return f"{what}{ragged}; this model takes {self.bins} per frame"

    def _audio(self, where: list, kind: str, value: Any) -> str:
        if len(where) == 1:
            return "empty; send a list of samples between -1 and 1" if kind == "too_short" else \
                f"{_shown(value)} is no list of numbers; send samples between -1 and 1"
        if kind == "float_type":
            return f"{_shown(value)} is no number; send the samples of one channel, not nested"
        return f"{_shown(value)} is not between -1 and 1; divide 16-bit samples by 32768"

    def _features(self, where: list, kind: str, value: Any) -> str:
        if len(where) == 1:
            return "empty; send frames, each a list of numbers, 100 frames per second" if kind == "too_short" else \
                f"{_shown(value)} is no list of numbers; send frames, each a list of numbers"
        if len(where) == 2:
            return f"{_shown(value)} is no list of {self.bins} numbers"
        return f"{_shown(value)} is no number" if kind == "float_type" else \
            f"{_shown(value)} is not finite, or too large to be a log-mel energy"


def answers() -> SimpleNamespace:
    """The models of what is answered: Answer, Info, Health, Refusal."""
    pydantic = require("pydantic", "serve", why="voxkit serve")
    share = Annotated[float, pydantic.Field(ge=0, le=1)]
    token = pydantic.create_model("Token", token=(str, ...), confidence=(share, ...))
    word = pydantic.create_model("Word", word=(str, ...), start=(float, ...), end=(float, ...), confidence=(share, ...))
    answer = pydantic.create_model("Answer", text=(str, ...), confidence=(share, ...), words=(list[word], ...), tokens=(list[token], ...),
                                   audio_duration=(float, ...))
    info = pydantic.create_model(
        "Info", system=(str, ...), method=(str, ...), vocabulary=(int, ...), feature_bins=(Optional[int], ...), takes=(list[str], ...),
        max_seconds=(float, ...), calibrated=(bool, ...), temperature=(float, ...), calibrated_on=(Optional[str], ...),
        streaming=(bool, ...))
    health = pydantic.create_model("Health", status=(str, ...), requests=(int, ...), batches=(int, ...), waiting=(int, ...),
                                   ended=(int, ...), calibrated=(bool, ...), sessions=(int, ...))
    return SimpleNamespace(Answer=answer, Info=info, Health=health, Refusal=pydantic.create_model("Refusal", error=(str, ...)))


def _kind(body: Any) -> str:
    """Which of the two a body is; where that is open, the model for audio says what is wrong."""
    if not isinstance(body, dict):
        raise TypeError
    return "features" if "features" in body else "audio"


def _no_object(body: bytes) -> RequestError:
    kind = {b"[": "list", b'"': "string", b"t": "truth value", b"f": "truth value", b"n": "null"}.get(body.lstrip()[:1], "number")
    return RequestError(400, f'the body is a JSON {kind}; send an object, for example {{"audio": [...]}}')


def _place(where: list) -> str:
    return str(where[0]) + "".join(f"[{part}]" for part in where[1:])


def _rate(where: list, kind: str, value: Any) -> str:
    return f"{_shown(value)} is no number of samples per second between {LOWEST_RATE} and {HIGHEST_RATE}"


def _words(where: list, kind: str, value: Any) -> str:
    return f"{_shown(value)}, and must be true or false"


def _shown(value: Any) -> str:
    """A value as JSON has it, cut short: `null`, `5`, `"abc"`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'"{value[:38]}"'
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    try:
        return str(value)[:40]
    except ValueError:  # Python spells no integer of more than some thousand digits
        return "an integer too large"
