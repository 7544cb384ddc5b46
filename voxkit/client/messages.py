"""What the server says, as values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Union

from voxkit.client.errors import FOREIGN, ClientError


@dataclass(frozen=True)
class Word:
    """A recognized word: seconds from the beginning of the session, confidence in [0, 1]."""

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Result:
    """The text of an utterance, or of what was heard of it.

    Attributes:
        text: of the utterance since `start`.
        final: whether it stays; else the next result replaces it.
        start, duration: seconds from the beginning of the session, and of audio.
        words: with times and confidences; of a final.
        confidence: in [0, 1].
        speech_final: whether silence ended it; from_finalize: whether `finalize` did.
        raw: the server's message.
    """

    text: str
    final: bool
    start: float
    duration: float
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    speech_final: bool = False
    from_finalize: bool = False
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class SpeechStarted:
    """Somebody began to speak, at this second of the session."""

    timestamp: float


@dataclass(frozen=True)
class Connected:
    """A server took the stream; `session` is its name there, `raw` what else it says of itself (model, limits)."""

    session: str
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Reconnecting:
    """The connection broke and is made again in `wait` seconds; audio from `offset` on is sent again. `lost`: seconds of audio that went
    unanswered and could not be kept."""

    error: ClientError
    wait: float
    offset: float
    lost: float = 0.0


@dataclass(frozen=True)
class Configured:
    """What `configure` asked for holds now, or `problem` says why nothing was changed."""

    problem: str = ""


@dataclass(frozen=True)
class Finished:
    """Everything is answered; `duration` seconds of audio on the last connection."""

    duration: float
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


Event = Union[Result, SpeechStarted, Connected, Reconnecting, Configured, Finished]


def parse(message: str | bytes) -> Event | ClientError | None:
    """One message of the server; None for a kind that says nothing to a client.

    Raises:
        ClientError: it is none, so that the other side is no such server.
    """
    try:
        raw = json.loads(message)
        kind = raw["type"]
        if kind == "Results":
            return _result(raw)
        if kind == "SpeechStarted":
            return SpeechStarted(float(raw["timestamp"]))
        if kind == "Begin":
            return Connected(str(raw["request_id"]), raw)
        if kind in ("ConfigureSuccess", "ConfigureFailure"):
            return Configured("" if kind == "ConfigureSuccess" else str(raw.get("description", "")) or kind)
        if kind == "Metadata":
            return Finished(float(raw.get("duration", 0.0)), raw)
        if kind == "Error":
            after = raw.get("retry_after")
            name, text = str(raw.get("variant", "ERROR")), str(raw["message"])
            return ClientError(int(raw["code"]), name, text, None if after is None else float(after))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ClientError(FOREIGN, "PROTOCOL", f"{str(message)[:200]!r} is no message of voxkit serve: {error!r}") from error
    return None


def _result(raw: dict[str, Any]) -> Result:
    best = raw["channel"]["alternatives"][0]
    words = tuple(Word(str(w["word"]), float(w["start"]), float(w["end"]), float(w["confidence"])) for w in best.get("words", ()))
    return Result(str(best["transcript"]), bool(raw["is_final"]), float(raw["start"]), float(raw["duration"]), words,
                  float(best.get("confidence", 0.0)), bool(raw.get("speech_final")), bool(raw.get("from_finalize")), raw)
