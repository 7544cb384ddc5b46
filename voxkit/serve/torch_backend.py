"""A checkpoint as the service's model."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from voxkit.batch import Batch, Padded
from voxkit.hypothesis import Hypothesis
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.rate import RATE
from voxkit.serve.backend import Asked
from voxkit.serve.inputs import Input
from voxkit.serve.stopping import stoppable, watch

_PHRASES = 256  # sets of them that are kept


class TorchBackend:
    """See `voxkit.serve.backend.Backend`.

    Args:
        recognizer: of the checkpoint.
        search: how every request is recognized.
        calibration: of the confidences, as voxkit.infer.calibration keeps it.
    """

    streaming = None

    def __init__(self, recognizer: Recognizer, search: SearchOptions | None = None, calibration: Mapping[str, Any] | None = None) -> None:
        search = search or SearchOptions()
        self.recognizer, self.calibration = recognizer, calibration
        self.search = search if calibration is None else replace(search, temperature=calibration["temperature"])
        self.name, self.method, self.vocabulary = type(recognizer.model).__name__, search.method, recognizer.vocabulary
        self.bins, self.longest = feature_bins(recognizer), float(getattr(recognizer.model, "max_seconds", None) or math.inf)
        self._spelled = functools.lru_cache(_PHRASES)(lambda phrases, boost: recognizer.phrases(phrases, boost))
        watch(recognizer.model)

    def recognize(self, items: Sequence[Input], asked: Asked, unwanted: threading.Event | None = None) -> list[Hypothesis]:
        """One batch; what is longer than the model takes, by itself and in pieces."""
        values = [torch.from_numpy(item.values) for item in items]
        with stoppable(unwanted):
            words = asked.words or not self.recognizer.method(self.method).scores_tokens
            options = replace(self.search, words=words)
            if asked.phrases:
                options = replace(options, context=self._spelled(asked.phrases, asked.boost))
            if asked.kind == "audio" and any(len(value) > self.longest * RATE for value in values):
                return [self.recognizer.transcribe(value, options) for value in values]
            batch = Batch(ids=[f"request {i}" for i in range(len(items))], **{asked.kind: Padded.of(values)})
            return self.recognizer.recognize(batch, options)

    def check_phrases(self, phrases: Sequence[str], boost: float) -> None:
        """By the check of the search."""
        self.recognizer.check(replace(self.search, context=self._spelled(tuple(phrases), boost)))


def feature_bins(recognizer: Recognizer) -> int | None:
    """Values per frame that the model takes; None where it takes audio alone."""
    fbank = getattr(getattr(recognizer.model, "front_end", None), "fbank", None)  # Whisper has no front end of ours
    return None if fbank is None else fbank.num_bins
