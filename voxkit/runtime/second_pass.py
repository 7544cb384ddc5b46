"""The second of two passes: a model of full context that reads an utterance once more at its end and says the final text.

A full-context encoder does not stream by sliding a window over its input: its states near the edge of the window are far from those it
would have in the whole utterance. The first pass, a causal model, says what is heard so far; this one reads each utterance once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from voxkit.hypothesis import Hypothesis
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions

PhraseList = Mapping[str, float] | Iterable[str]


class SecondPass(Protocol):
    """What StreamingRecognizer asks at the end of an utterance."""

    def read(self, wave: np.ndarray, phrases: PhraseList | None = None, boost: float = 1.5) -> Hypothesis:
        """The whole utterance [S] float32 at 16 kHz → its text; words are timed from its beginning.

        Args:
            phrases: to favor by `boost` nats per token, or each by its own; None: those that the pass was made with.
        """

    def check_phrases(self, phrases: PhraseList, boost: float = 1.5) -> None:
        """
        Raises:
            ValueError: phrases that `read` would not take.
        """


class ArtifactPass:
    """An artifact over whole utterances as second pass.

    Args:
        recognizer: of the artifact.
        options: how it searches; by default greedily, with words.

    Raises:
        ValueError: a search that the artifact cannot do, or a streaming artifact.
    """

    def __init__(self, recognizer: OnnxRecognizer, options: SearchOptions | None = None) -> None:
        if recognizer.artifact.streaming is not None:
            raise ValueError(f"{recognizer.artifact.folder} takes chunks; a second pass reads whole utterances: export without --streaming")
        self.recognizer, self.options = recognizer, options or SearchOptions(words=True)
        recognizer.check(self.options)

    def read(self, wave: np.ndarray, phrases: PhraseList | None = None, boost: float = 1.5) -> Hypothesis:
        """As SecondPass says. A search that takes no phrases goes without."""
        return self.recognizer.transcribe(wave, self._favoring(phrases, boost))

    def check_phrases(self, phrases: PhraseList, boost: float = 1.5) -> None:
        """As SecondPass says."""
        self._favoring(phrases, boost)

    def _favoring(self, phrases: PhraseList | None, boost: float) -> SearchOptions:
        at_once = self.recognizer.parallel and self.options.method == "greedy"  # all tokens together: phrases cannot change one
        if not phrases or at_once:
            return self.options
        return replace(self.options, context=self.recognizer.phrases(phrases, boost))
