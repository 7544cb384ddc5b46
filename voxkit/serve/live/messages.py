"""What the server says on /v1/listen; docs/serving.md shows each message."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

from voxkit import __version__
from voxkit.serve.backend import confidence
from voxkit.serve.live.errors import StreamError
from voxkit.serve.live.options import MAX_KEYTERM_CHARACTERS, MAX_KEYTERMS, StreamOptions
from voxkit.serve.live.stream import Configured, Heard, Started

PROTOCOL = 1
_CHANNEL = [0, 1]  # the first of one


class Messages:
    """The messages of one session.

    Args:
        options: of its stream. model: the system's name.
    """

    def __init__(self, options: StreamOptions, model: str) -> None:
        self.options, self.id = options, str(uuid.uuid4())
        self._metadata = {"request_id": self.id, "model_info": {"name": model, "version": __version__, "arch": model},
                          "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, model))}
        self._model, self._created = model, datetime.now(timezone.utc)

    def begin(self, streaming: bool, limits: dict[str, Any]) -> dict[str, Any]:
        """First."""
        o = self.options
        return {"type": "Begin", "request_id": self.id, "protocol": PROTOCOL, "model": self._model, "streaming": streaming,
                "offset": o.offset, "encoding": o.encoding, "sample_rate": o.rate, "channels": o.channels, "interim_results": o.interim,
                "endpointing": o.endpointing, "ignored": list(o.ignored),
                "limits": {**limits, "keyterms": MAX_KEYTERMS, "keyterm_characters": MAX_KEYTERM_CHARACTERS}}

    def started(self, event: Started) -> dict[str, Any]:
        """Speech was noticed."""
        return {"type": "SpeechStarted", "channel": _CHANNEL, "timestamp": self._time(event.start)}

    def results(self, event: Heard) -> dict[str, Any]:
        """What was said."""
        start = self._time(event.start)
        words = [{"word": w.word, "start": self._time(w.start), "end": self._time(w.end), "confidence": round(w.confidence, 4)}
                 for w in event.hypothesis.words]
        said = {"transcript": event.hypothesis.text, "confidence": round(confidence(event.hypothesis), 4), "words": words}
        return {"type": "Results", "channel_index": _CHANNEL, "start": start, "duration": round(self._time(event.end) - start, 6),
                "is_final": event.final, "speech_final": event.pause, "from_finalize": event.asked, "channel": {"alternatives": [said]},
                "metadata": self._metadata}

    def configured(self, event: Configured) -> dict[str, Any]:
        """A change was made, or not."""
        if event.refused is not None:
            return {"type": "ConfigureFailure", "request_id": self.id, "code": "CONFIGURE_INVALID", "description": event.refused}
        phrases = {} if event.change.phrases is None else {"keyterms": list(event.change.phrases)}
        return {"type": "ConfigureSuccess", "request_id": self.id, **phrases}

    def metadata(self, seconds: float, sha256: str) -> dict[str, Any]:
        """Last of a session that ends in order."""
        created = self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"type": "Metadata", "request_id": self.id, "transaction_key": "deprecated", "sha256": sha256, "created": created,
                "duration": round(seconds, 6), "channels": self.options.channels}

    def _time(self, seconds: float) -> float:
        return round(seconds + self.options.offset, 6)


def draining(seconds: float) -> dict[str, Any]:
    """The server will stop."""
    return {"type": "Draining", "seconds": round(seconds, 3)}


def error(why: StreamError) -> dict[str, Any]:
    """Last, before a close with the same code."""
    return {"type": "Error", "code": why.code, "message": why.message, "retry_after": why.retry_after, "variant": why.variant,
            "description": why.message}
