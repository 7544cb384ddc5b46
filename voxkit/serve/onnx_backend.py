"""An artifact as the service's model: no torch."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.artifact import Artifact
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.second_pass import SecondPass
from voxkit.runtime.streaming import Session, StreamingRecognizer
from voxkit.serve.backend import Asked
from voxkit.serve.inputs import Input
from voxkit.serve.stopping import check, stoppable

_PHRASES = 256  # sets of them that are kept
_SLICE = RATE  # samples that a streaming model is fed between two looks at whether anybody waits


class _OnnxBackend:
    """What both have. Args: recognizer: with the artifact's vocabulary and scores; search: how every request is recognized."""

    bins = None  # features are the artifact's own affair

    def __init__(self, recognizer: OnnxRecognizer, search: SearchOptions) -> None:
        artifact = recognizer.artifact
        self.recognizer, self.search = recognizer, search
        self.name, self.method, self.vocabulary = str(artifact.meta["system"]), search.method, artifact.vocabulary
        self.calibration: Mapping[str, Any] | None = artifact.calibration.get("methods", {}).get(search.method)
        self._spelled = functools.lru_cache(_PHRASES)(lambda phrases, boost: recognizer.phrases(phrases, boost))

    def check_phrases(self, phrases: Sequence[str], boost: float) -> None:
        """By the check of the search."""
        self.recognizer.check(replace(self.search, context=self._spelled(tuple(phrases), boost)))

    def _options(self, asked: Asked) -> SearchOptions:
        options = replace(self.search, words=True)  # their confidences are the answer's
        return replace(options, context=self._spelled(asked.phrases, asked.boost)) if asked.phrases else options


class OnnxBackend(_OnnxBackend):
    """See `voxkit.serve.backend.Backend`; an artifact over whole utterances."""

    streaming = None

    def __init__(self, recognizer: OnnxRecognizer, search: SearchOptions | None = None) -> None:
        super().__init__(recognizer, search or SearchOptions())
        recognizer.check(self.search)
        self.longest = recognizer.artifact.longest_seconds

    def recognize(self, items: Sequence[Input], asked: Asked, unwanted: threading.Event | None = None) -> list[Hypothesis]:
        """One batch through the encoder, then the search of each; what is longer than the model takes, by itself and in pieces."""
        options, out = self._options(asked), []
        with stoppable(unwanted):
            if any(item.seconds > self.longest for item in items):
                for item in items:
                    check()
                    out.append(self.recognizer.transcribe(item.values, options))
            else:
                for encoded in self.recognizer.artifact.encode([item.values for item in items]):
                    check()
                    out.append(self.recognizer.search(encoded, options))
        return out


class StreamingBackend(_OnnxBackend):
    """See `voxkit.serve.backend.Backend`; a streaming artifact. A whole utterance is heard as if it came."""

    longest = float("inf")

    def __init__(self, artifact: Artifact, search: SearchOptions | None = None, *, second: SecondPass | None = None) -> None:
        super().__init__(OnnxRecognizer(artifact), replace(search or SearchOptions(), words=True))
        self.streaming = StreamingRecognizer(artifact, self.search, second=second)

    def check_phrases(self, phrases: Sequence[str], boost: float) -> None:
        """By the check of both passes."""
        super().check_phrases(phrases, boost)
        if self.streaming.second is not None:
            self.streaming.second.check_phrases(phrases, boost)

    def recognize(self, items: Sequence[Input], asked: Asked, unwanted: threading.Event | None = None) -> list[Hypothesis]:
        """Chunk by chunk, together."""
        sessions = [self.streaming.session(phrases=asked.phrases or None, boost=asked.boost, endpointing=None) for _ in items]
        with stoppable(unwanted):
            for first in range(0, max(len(item.values) for item in items), _SLICE):
                check()
                fed: list[Session] = []
                for session, item in zip(sessions, items):
                    if len(part := item.values[first:first + _SLICE]):
                        session.feed(part)
                        fed.append(session)
                self.streaming.step(fed)
            return [session.finalize()[-1].hypothesis for session in sessions]
