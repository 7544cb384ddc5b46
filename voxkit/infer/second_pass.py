"""A checkpoint as the second of two passes (voxkit.runtime.second_pass): torch reads each utterance once more at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from voxkit.hypothesis import Hypothesis
from voxkit.infer.calibration import calibration_of, read_calibration, timing_of
from voxkit.infer.recognizer import Recognizer
from voxkit.runtime.pipeline import PipelineConfig, SearchConfig
from voxkit.runtime.second_pass import PhraseList
from voxkit.search.options import SearchOptions


class CheckpointPass:
    """A recognizer in torch as second pass.

    Args:
        recognizer: of whole utterances.
        options: how it searches.

    Raises:
        ValueError: a search that the model cannot do.
    """

    def __init__(self, recognizer: Recognizer, options: SearchOptions | None = None) -> None:
        self.recognizer, self.options = recognizer, options or SearchOptions(words=True)
        recognizer.check(self.options)
        if reason := recognizer.refusal(self.options):
            raise ValueError(reason)

    def read(self, wave: np.ndarray, phrases: PhraseList | None = None, boost: float = 1.5) -> Hypothesis:
        """The whole utterance [S] float32 at 16 kHz → its text. A search that takes no phrases goes without."""
        return self.recognizer.transcribe(torch.from_numpy(wave), self._favoring(phrases, boost))

    def check_phrases(self, phrases: PhraseList, boost: float = 1.5) -> None:
        """
        Raises:
            ValueError: phrases that `read` would not take.
        """
        self._favoring(phrases, boost)

    def _favoring(self, phrases: PhraseList | None, boost: float) -> SearchOptions:
        if not phrases:
            return self.options
        favored = replace(self.options, context=self.recognizer.phrases(phrases, boost))  # type: ignore[arg-type]
        return self.options if "context" in self.recognizer.refused(favored) else favored


def open_checkpoint(path: str, search: SearchConfig, config: PipelineConfig) -> CheckpointPass:
    """A checkpoint, a run, or exp/NAME, as a configuration of a pipeline names it.

    Raises:
        ValueError: no checkpoint there, or a search that it cannot do.
    """
    from voxkit.infer.checkpoint import load_checkpoint

    loaded = load_checkpoint(path, config.device)
    recognizer = Recognizer(loaded.model, loaded.vocabulary, config.device)  # type: ignore[arg-type]
    given: dict[str, Any] = dict(search.weights)
    if search.lm:
        given["lm"] = recognizer.language_model(search.lm)
    if search.phrases:
        given["context"] = recognizer.phrases(search.boosted())
    known = read_calibration(calibration_of(loaded.path))
    temperature = known.get("methods", {}).get(search.method, {}).get("temperature", 1.0)
    options = SearchOptions(search.method, words=search.words, temperature=temperature,
                            timing=timing_of(known, recognizer.spikes_of(search.method)), **given)
    return CheckpointPass(recognizer, options)
