"""What a client asks of a stream: the query of /v1/listen and its Configure message, checked; nothing is ignored without a word."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from voxkit.rate import LIVE_RATES
from voxkit.serve.live.errors import INVALID, StreamError

ENCODINGS = {"linear16": np.dtype("<i2"), "linear32": np.dtype("<f4")}
MAX_KEYTERMS, MAX_KEYTERM_CHARACTERS, MAX_BOOST = 100, 100, 20.0
MAX_OFFSET = 1e7  # seconds
SHORTEST_SILENCE, LONGEST_SILENCE, USUAL_SILENCE = 30, 10_000, 500  # milliseconds
USUAL_BOOST = 1.5
# Deepgram's, that change nothing of what this server answers.
IGNORED = ("model", "language", "version", "punctuate", "smart_format", "numerals", "profanity_filter", "filler_words", "dictation", "tag",
           "extra", "mip_opt_out", "no_delay", "language_hint")
# Deepgram's, that would change it.
REFUSED = ("multichannel", "diarize", "diarize_model", "redact", "callback", "callback_method", "utterance_end_ms", "detect_entities",
           "search", "replace", "keywords", "intents", "topics", "sentiment", "summarize", "translate")
_REPEATED = ("keyterm", "tag", "extra", "language_hint", "keywords", "redact", "replace", "search")
_FIELDS = 300  # parameters that are looked at


@dataclass(frozen=True)
class StreamOptions:
    """Attributes:
    encoding: of samples, a key of ENCODINGS; rate: samples per second; channels: interleaved.
    interim: whether text that may still change is wanted.
    silence: seconds of it that end an utterance; None: `finalize` does.
    started: whether the begin of speech is told.
    phrases: to favor by `boost` nats per token.
    offset: seconds, added to every time.
    ignored: what was asked for and changes nothing.
    """

    encoding: str = "linear16"
    rate: int = 16000
    channels: int = 1
    interim: bool = False
    silence: float | None = USUAL_SILENCE / 1000
    started: bool = True
    phrases: tuple[str, ...] = ()
    boost: float = USUAL_BOOST
    offset: float = 0.0
    ignored: tuple[str, ...] = ()

    @property
    def frame_bytes(self) -> int:
        """Of one sample of each channel."""
        return ENCODINGS[self.encoding].itemsize * self.channels

    @property
    def bytes_per_second(self) -> int:
        """Of audio."""
        return self.frame_bytes * self.rate

    @property
    def endpointing(self) -> int | bool:
        """As the protocol says it: milliseconds, or False."""
        return False if self.silence is None else round(1000 * self.silence)

    def samples(self, data: bytes) -> np.ndarray:
        """Bytes of whole frames → one channel [S] float32."""
        values = np.frombuffer(data, ENCODINGS[self.encoding])
        audio = values.astype(np.float32) / np.float32(32768) if values.dtype.kind == "i" else values.astype(np.float32)
        if self.channels > 1:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused, with its place, where it is fed
                audio = audio.reshape(-1, self.channels).mean(axis=1, dtype=np.float32)
        return audio


@dataclass(frozen=True)
class Change:
    """What a Configure message changes; None: stays. `refused`: why it can change nothing; it is told when its turn comes."""

    phrases: tuple[str, ...] | None = None
    silence: float | None = None
    interim: bool | None = None
    refused: str | None = None


def from_query(query: str, silence: float = USUAL_SILENCE / 1000) -> StreamOptions:
    """The query of an address; `silence`: seconds that end an utterance where it does not say.

    Raises:
        StreamError: INVALID: a parameter that is none, stands twice, or has a value that it cannot have.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
    except UnicodeDecodeError:
        raise _invalid("the query is no UTF-8") from None
    except ValueError:
        raise _invalid(f"more than {_FIELDS} parameters") from None
    given: dict[str, Any] = {}
    phrases, ignored = [], []
    seen: set[str] = set()
    for name, value in pairs:
        if name in seen and name not in _REPEATED:
            raise _invalid(f"{name}: given twice")
        seen.add(name)
        if name == "keyterm":
            phrases.append(value)
        elif name in IGNORED:
            ignored.append(name)
        elif name in REFUSED:
            if value.lower() not in ("false", ""):
                raise _invalid(f"{name}: this server does not do it; omit it")
        elif name not in _READ and name != "token":
            raise _invalid(f"{name[:40]}: no such parameter; there are: {', '.join((*_READ, 'keyterm', 'token'))}")
        else:
            given[name] = value
    given.pop("token", None)
    if given.get("endpointing", "").lower() == "true":
        del given["endpointing"]
    attributes = {"silence": silence} | {attribute: read(name, given[name]) for name, (attribute, read) in _READ.items() if name in given}
    options = StreamOptions(**attributes, phrases=check_phrases(phrases), ignored=tuple(dict.fromkeys(ignored)))
    return options if options.silence is not None else replace(options, started=False)


def check_phrases(phrases: Any, name: str = "keyterm") -> tuple[str, ...]:
    """Phrases to favor.

    Raises:
        StreamError: INVALID: not a list of texts, too many of them, one that is empty or too long.
    """
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise _invalid(f"{name}: must be a list of texts")
    if len(phrases) > MAX_KEYTERMS:
        raise _invalid(f"{name}: {len(phrases)} phrases; at most {MAX_KEYTERMS}")
    for phrase in phrases:
        if not phrase.strip() or len(phrase) > MAX_KEYTERM_CHARACTERS:
            raise _invalid(f"{name}: {phrase[:40]!r} is empty, or longer than {MAX_KEYTERM_CHARACTERS} characters")
    return tuple(dict.fromkeys(phrase.strip() for phrase in phrases))


def change_of(message: Mapping[str, Any], options: StreamOptions) -> Change:
    """What a Configure message asks for.

    Raises:
        StreamError: INVALID: a field that is none, or a value that it cannot have.
    """
    for name, value in message.items():
        if name not in ("type", "keyterms", "endpointing", "interim_results", "features"):
            raise _invalid(f"{name[:40]}: no such field; there are: keyterms, endpointing, interim_results")
        if name == "features" and value:
            raise _invalid("features: this server formats nothing")
    phrases, silence, interim = (message.get(name) for name in ("keyterms", "endpointing", "interim_results"))
    if interim is not None and not isinstance(interim, bool):
        raise _invalid("interim_results: must be true or false")
    if silence is not None:
        if options.silence is None or isinstance(silence, bool) or not isinstance(silence, (int, float)) or silence == 0:
            raise _invalid("endpointing: must be milliseconds, and cannot be turned on or off within a session; connect anew for that")
        silence = _silence("endpointing", repr(silence))
    return Change(None if phrases is None else check_phrases(phrases, "keyterms"), silence, interim)


def control_of(text: str) -> Mapping[str, Any]:
    """A text message of the client: an object whose `type` is one of KeepAlive, Finalize, CloseStream, Configure.

    Raises:
        StreamError: INVALID: it is none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid(f"a text message that is no JSON: {text[:40]!r}; audio goes in binary messages") from None
    kind = message.get("type") if isinstance(message, dict) else None
    if kind not in ("KeepAlive", "Finalize", "CloseStream", "Configure"):
        raise _invalid(f"a message of type {str(kind)[:40]!r}; there are: KeepAlive, Finalize, CloseStream, Configure")
    if kind == "Finalize" and message.get("channel", 0) != 0:
        raise _invalid("channel: channels are mixed to one, number 0")
    return message


def _invalid(message: str) -> StreamError:
    return StreamError(INVALID, message)


def _choice(values: tuple) -> Callable[[str, str], Any]:
    def read(name: str, value: str) -> Any:
        for one in values:
            if str(one) == value:
                return one
        raise _invalid(f"{name}: {value[:40]!r} is none of {', '.join(map(str, values))}")
    return read


def _truth(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise _invalid(f"{name}: {value[:40]!r} is not true or false")
    return value.lower() == "true"


def _number(least: float, most: float) -> Callable[[str, str], float]:
    def read(name: str, value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise _invalid(f"{name}: {value[:40]!r} is no number between {least:g} and {most:g}")
        return number
    return read


def _silence(name: str, value: str) -> float | None:
    if value.lower() in ("false", "0"):
        return None
    return _number(SHORTEST_SILENCE, LONGEST_SILENCE)(name, value) / 1000


_READ: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "encoding": ("encoding", _choice(tuple(ENCODINGS))), "sample_rate": ("rate", _choice(LIVE_RATES)),
    "channels": ("channels", _choice((1, 2))), "interim_results": ("interim", _truth), "endpointing": ("silence", _silence),
    "vad_events": ("started", _truth), "keyterm_boost": ("boost", _number(0, MAX_BOOST)), "offset": ("offset", _number(0, MAX_OFFSET))}
