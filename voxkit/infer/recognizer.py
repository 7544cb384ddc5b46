"""Recognizer: audio → Hypothesis, by any of the searches that the model's heads allow, for one file or a batch.

    recognizer = Recognizer.load("exp/stage3")
    print(recognizer.transcribe("order.wav").text)
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxkit.audio.io import read_audio
from voxkit.batch import Batch, Padded, audio_batch
from voxkit.hypothesis import Hypothesis
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.language_model import load_language_model
from voxkit.infer.words import WAYS, by_peaks, place_words
from voxkit.models.contract import Encoded, Listener
from voxkit.rate import RATE
from voxkit.runtime.long_audio import recognize_long
from voxkit.runtime.vad import Vad
from voxkit.search import method as methods
from voxkit.search.context_graph import ContextGraph
from voxkit.search.heads import Heard
from voxkit.search.options import SearchOptions
from voxkit.search.scorer import Scorer
from voxkit.search.text_ranking import best_of
from voxkit.text.vocabulary import Vocabulary


class Recognizer:
    """A model that turns audio into states, its vocabulary, and the searches of `voxkit.search.method.METHODS` over its heads.

    Args:
        model: with `encode(batch)`, `heads` and `seconds_per_frame`.
        vocabulary: the one it was trained with.
        device: where the model is.
    """

    def __init__(self, model: Listener, vocabulary: Vocabulary, device: torch.device | str = "cpu") -> None:
        self.model, self.vocabulary, self.device = model, vocabulary, torch.device(device)

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> Recognizer:
        """From a checkpoint or run directory."""
        loaded = load_checkpoint(path, device, overrides)
        return cls(loaded.model, loaded.vocabulary, device)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, device: torch.device | str = "cpu", *, language: str = "auto",
                        task: str = "transcribe") -> Recognizer:
        """Of a pretrained Whisper, which needs no training (`voxkit.infer.pretrained_recognizer.from_pretrained`)."""
        from voxkit.infer.pretrained_recognizer import from_pretrained

        return from_pretrained(name, device, language=language, task=task)

    def language_model(self, path: str | os.PathLike) -> Scorer:
        """An n-gram in ARPA or KenLM's binary format, or a neural one's directory, over this vocabulary's pieces.

        Raises:
            ValueError: it is over other tokens, or nothing of the three.
        """
        return load_language_model(path, self.vocabulary, self.device)

    def phrases(self, phrases: Sequence[str] | Mapping[str, float], boost: float = 1.5) -> ContextGraph:
        """Phrases (hotwords, contextual biasing) that the search should favor by `boost` nats per token, or each by its own.

        Raises:
            ValueError: none, one that this vocabulary cannot spell, or a boost that is no finite number.
        """
        return ContextGraph.from_texts(phrases, self.vocabulary, boost)

    def methods(self) -> list[str]:
        """The searches that this model can do."""
        return methods.methods_of(self.model.heads)

    def method(self, name: str) -> methods.Method:
        """The row of a search, as this model does it.

        Raises:
            ValueError: an unknown method, or one that needs a head this model has not; the message says which there are.
        """
        return methods.method_of(name, self.model.heads)

    def spikes_of(self, name: str) -> str:
        """Whose tokens' spikes give the words that a search finds their times, which can be fitted: ctc or transducer; "": of none."""
        row = self.method(name)
        if not row.times or not WAYS[row.times[0]][1] or (row.times[0] == "alignment" and self.model.heads.ctc is None):
            return ""
        return "transducer" if "transducer" in row.needs else "ctc"

    def check(self, options: SearchOptions) -> None:
        """Refuse what is no search of this model.

        Raises:
            MissingPackage: a method of a package that cannot be imported.
            ValueError: as `method`; numbers that no search can weigh by; what the method's own check refuses; times of words that it
                cannot say.
        """
        row = self.method(options.method)
        row.check(options, self.vocabulary)
        options.check()
        if options.times == "peaks" and "peaks" not in row.times:
            peaked = ", ".join(name for name in self.methods() if "peaks" in self.method(name).times) or "no method of this model"
            raise ValueError(f"method {options.method} has no CTC peaks; --times peaks is for {peaked}, the others are aligned")

    def refusal(self, options: SearchOptions) -> str | None:
        """Why the method cannot take the options' language models or phrases, with those that can; None where it takes all of them."""
        return methods.refusal(options.method, options, self.model.heads)

    def refused(self, options: SearchOptions) -> list[str]:
        """Those of the options' attributes (lm, context, rescore_lm) that their method does not take."""
        return self.method(options.method).refused(options)

    def transcribe(self, audio: str | os.PathLike | Tensor, options: SearchOptions | None = None) -> Hypothesis:
        """One file, or one waveform [S] at 16 kHz. A file that ends in .npy holds features [T, F] instead of audio. A recording that is
        longer than the model takes (Whisper: 30 s) is cut in silence."""
        batch, longest = read_input(audio), self.model.max_seconds
        if batch.audio is None or longest is None or int(batch.audio.lengths[0]) <= longest * RATE:
            return self.recognize(batch, options)[0]
        wave = batch.audio.values[0].numpy()
        return recognize_long(wave, lambda waves: self.recognize(_batch_of(waves), options), longest, Vad())

    @torch.inference_mode()
    def recognize(self, batch: Batch, options: SearchOptions | None = None) -> list[Hypothesis]:
        """A batch → its hypotheses, in order.

        Raises:
            ValueError: a method that this model lacks (`check`), or that does not take what the options hold (`refusal`).
        """
        options = options or SearchOptions()
        self._ready(options)
        return self.search(self.encode(batch), options)

    @torch.inference_mode()
    def encode(self, batch: Batch) -> Encoded:
        """The part of `recognize` that is the same for all searches: a batch of audio, features or cached states → its states."""
        return self.model.encode(batch.to(self.device))

    @torch.inference_mode()
    def search(self, encoded: Encoded, options: SearchOptions) -> list[Hypothesis]:
        """The rest of it: what was encoded → its hypotheses, in order.

        Raises:
            ValueError: as `recognize`.
        """
        self._ready(options)
        row = self.method(options.method)
        heard = Heard(self.model.heads, encoded.states, encoded.lengths)
        chosen = best_of(row.run(heard, options, self.vocabulary), self.vocabulary, options, row.divides_by(options))
        hypotheses = self.hypotheses(chosen, encoded.seconds, options)
        if options.words and row.times:
            spans, fitted = WAYS[options.times if options.times in row.times else row.times[0]]
            place_words(hypotheses, spans(heard, hypotheses, chosen, self.vocabulary), self.vocabulary, self.model.seconds_per_frame,
                        options, fitted)
        return hypotheses

    def hypotheses(self, chosen: Sequence[Any], seconds: Sequence[float] | Tensor, options: SearchOptions) -> list[Hypothesis]:
        """What a search gave of utterances (tokens, score) of so many seconds, as text; confidences take the options' temperature."""
        out = []
        for candidate, duration in zip(chosen, seconds):
            log_probs = candidate.token_log_probs
            scored = len(log_probs) == len(candidate.tokens)
            kept = [i for i, token in enumerate(candidate.tokens) if token not in self.vocabulary.specials]
            tokens = [candidate.tokens[i] for i in kept]
            confidences = [min(1.0, math.exp(log_probs[i] / options.temperature)) for i in kept] if scored else []
            out.append(Hypothesis(self.vocabulary.decode(tokens), [], float(candidate.score), tokens, float(duration), confidences,
                                  getattr(candidate, "stopped", "")))
        return out

    def add_peaked_words(self, hypotheses: list[Hypothesis], chosen: Sequence[Any], options: SearchOptions) -> None:
        """Words where the search itself saw them, of part of an utterance."""
        place_words(hypotheses, by_peaks(None, hypotheses, chosen, self.vocabulary), self.vocabulary, self.model.seconds_per_frame, options)

    def _ready(self, options: SearchOptions) -> None:
        if reason := self.refusal(options):
            raise ValueError(reason)
        self.check(options)


def _batch_of(waves: Sequence[np.ndarray]) -> Batch:
    return Batch([f"segment {i}" for i in range(len(waves))], audio=Padded.of([torch.from_numpy(wave) for wave in waves]))


def read_input(source: str | os.PathLike | Tensor) -> Batch:
    """An audio file, a waveform [S] at 16 kHz, or a .npy file of features [T, F] at 100 frames/s → a batch of one.

    Raises:
        ValueError: no such file, no audio; features of another shape, without frames, or that are no numbers.
    """
    if not isinstance(source, Tensor) and str(source).endswith(".npy"):
        return _read_features(source)
    wave = source if isinstance(source, Tensor) else read_audio(source)[0]
    name = "audio" if isinstance(source, Tensor) else str(source)
    return audio_batch(wave, name)


def _read_features(path: str | os.PathLike) -> Batch:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file of features")
    array = np.load(path, allow_pickle=False)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{path}: features are finite numbers [frames, bins], this is {array.dtype} {list(array.shape)}")
    return Batch([str(path)], features=Padded.of([torch.from_numpy(array.astype(np.float32))]))
