"""Recognizer: audio → Hypothesis, by any of the searches, for one file or a batch.

    recognizer = Recognizer.load("exp/stage3")
    print(recognizer.transcribe("order.wav").text)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from voxkit.align.ctc import forced_align
from voxkit.align.words import words_from_tokens
from voxkit.audio.fbank import Fbank
from voxkit.audio.io import RATE, read_audio
from voxkit.batch import Batch
from voxkit.hypothesis import Hypothesis
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.parallel import recognize_parallel
from voxkit.search.attention import attention_beam, attention_rescore
from voxkit.search.context_graph import ContextGraph
from voxkit.search.greedy import ctc_greedy
from voxkit.search.ngram import NgramModel
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.search.scorer import Scorer, combine
from voxkit.text.tokenizer import EOS, Tokenizer


@dataclass
class SearchOptions:
    """How to search.

    Attributes:
        method: one of METHODS; of a model with a parallel decoder one of PARALLEL_METHODS (voxkit.infer.parallel).
        beam: hypotheses kept.
        ctc_weight: of the CTC score in joint decoding and rescoring; the rest is the decoder's.
        lm, lm_weight: scorer over the same tokens (`Recognizer.language_model`), and its weight.
        context: scorer of phrases (`Recognizer.phrases`).
        length_bonus: added per token.
        words: also give word times and confidences.
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm: Scorer | None = None
    lm_weight: float = 0.3
    context: Scorer | None = None
    length_bonus: float = 0.0
    words: bool = False

    def scorer(self) -> Scorer | None:
        """Language model, phrases and bonus as one."""
        return combine(self.lm, self.lm_weight, context=self.context, bonus=self.length_bonus)


class Recognizer:
    """A model with a CTC head and maybe an attention decoder, or a parallel one, its tokenizer, and the searches over their scores.

    Args:
        model: with `encode(batch)`, `ctc_log_probs(states)`, `decoder` (or None) and `seconds_per_frame`; one with a parallel decoder has
            `predict(states, lengths)`.
        tokenizer: the one it was trained with.
        device: where the model is.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, device: torch.device | str = "cpu") -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, torch.device(device)

    @classmethod
    def load(cls, path: str | os.PathLike, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> Recognizer:
        """From a checkpoint or run directory."""
        loaded = load_checkpoint(path, device, overrides)
        return cls(loaded.model, loaded.tokenizer, device)

    def language_model(self, path: str | os.PathLike) -> NgramScorer:
        """An ARPA file over this tokenizer's pieces (`voxkit lm train --tokenizer`).

        Raises:
            ValueError: it is over other tokens.
        """
        return NgramScorer(NgramModel.read(path), self.tokenizer.pieces)

    def phrases(self, phrases: Sequence[str], boost: float = 1.5) -> ContextGraph:
        """Phrases that the search should favour by `boost` nats per token."""
        return ContextGraph([self.tokenizer.encode(p) for p in phrases], self.tokenizer.vocab_size, boost, self.tokenizer.word_starts)

    def transcribe(self, audio: str | os.PathLike | Tensor, options: SearchOptions | None = None) -> Hypothesis:
        """One file, or one waveform [S] at 16 kHz. A file that ends in .npy holds features [T, F] instead of audio."""
        return self.recognize(read_input(audio), options)[0]

    @torch.inference_mode()
    def recognize(self, batch: Batch, options: SearchOptions | None = None) -> list[Hypothesis]:
        """A batch → its hypotheses, in order.

        Raises:
            ValueError: an unknown method, or one that needs the decoder this model was trained without.
        """
        options = options or SearchOptions()
        if hasattr(self.model, "predict"):
            batch = batch.to(self.device)
            states, lengths = self.model.encode(batch)
            return recognize_parallel(self, states, lengths, self._seconds(batch, lengths), options)
        if options.method not in METHODS:
            raise ValueError(f"method {options.method!r} is none of {', '.join(METHODS)}")
        if options.method in NEEDS_DECODER and self.model.decoder is None:
            raise ValueError(f"method {options.method} needs an attention decoder, and this model was trained with CTC alone; "
                             "use greedy or prefix_beam")
        batch = batch.to(self.device)
        states, lengths = self.model.encode(batch)
        log_probs = self.model.ctc_log_probs(states)
        found = METHODS[options.method](self.model, states, lengths, log_probs, options)
        seconds = self._seconds(batch, lengths)
        spoken = [[token for token in h.tokens if token > EOS] for h in found]
        out = [Hypothesis(self.tokenizer.decode(t), [], float(h.score), t, float(s)) for h, t, s in zip(found, spoken, seconds)]
        if options.words:
            self.add_words(out, log_probs, lengths)
        return out

    def _seconds(self, batch: Batch, lengths: Tensor) -> Tensor:
        """[B] of the batch; of features and states, as far as the encoder's frames tell."""
        if batch.audio is not None:
            return batch.lengths / RATE
        return batch.lengths / Fbank.frames_per_second if batch.features is not None else lengths * self.model.seconds_per_frame

    def add_words(self, hypotheses: list[Hypothesis], log_probs: Tensor, lengths: Tensor) -> None:
        """Times and confidences of the found words, by aligning them with CTC; none where the decoder said more than fits the frames."""
        kept = [i for i, h in enumerate(hypotheses) if h.tokens and _frames_needed(h.tokens) <= int(lengths[i])]
        if not kept:
            return
        sizes = torch.tensor([len(hypotheses[i].tokens) for i in kept])
        tokens = torch.zeros(len(kept), int(sizes.max()), dtype=torch.long)
        for row, i in zip(tokens, kept):
            row[:len(hypotheses[i].tokens)] = torch.tensor(hypotheses[i].tokens)
        for i, found in zip(kept, forced_align(log_probs[kept].cpu(), lengths[kept].cpu(), tokens, sizes)):
            hypotheses[i].words = words_from_tokens(found.spans, self.tokenizer.pieces, self.model.seconds_per_frame,
                                                    duration=hypotheses[i].audio_duration)


def read_input(source: str | os.PathLike | Tensor) -> Batch:
    """An audio file, a waveform [S] at 16 kHz, or a .npy file of features [T, F] at 100 frames/s → a batch of one.

    Raises:
        ValueError: no such file, no audio; features of another shape, without frames, or that are no numbers.
    """
    if not isinstance(source, Tensor) and str(source).endswith(".npy"):
        return _read_features(source)
    wave = source if isinstance(source, Tensor) else read_audio(source)[0]
    name = "audio" if isinstance(source, Tensor) else str(source)
    return Batch(ids=[name], lengths=torch.tensor([len(wave)]), audio=wave[None])


def _read_features(path: str | os.PathLike) -> Batch:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file of features")
    array = np.load(path, allow_pickle=False)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{path}: features are finite numbers [frames, bins], this is {array.dtype} {list(array.shape)}")
    return Batch(ids=[str(path)], lengths=torch.tensor([len(array)]), features=torch.from_numpy(array.astype(np.float32))[None])


def _frames_needed(tokens: list[int]) -> int:
    """Of a CTC alignment: one per token, and a blank between two equal ones."""
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:]))


def _greedy(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[Any]:
    if options.lm is not None or options.context is not None:
        raise ValueError("greedy search takes neither a language model nor phrases; use prefix_beam, joint or rescoring")
    return ctc_greedy(log_probs, lengths)


def _prefix_beam(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[Any]:
    return [nbest[0] for nbest in ctc_prefix_beam(log_probs, lengths, options.beam, scorer=options.scorer())]


def _attention(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[Any]:
    return [nbest[0] for nbest in attention_beam(model.decoder, states, lengths, options.beam, scorer=options.scorer(), length_power=1.0)]


def _joint(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[Any]:
    return [nbest[0] for nbest in attention_beam(model.decoder, states, lengths, options.beam, ctc_log_probs=log_probs,
                                                 ctc_weight=options.ctc_weight, scorer=options.scorer())]


def _rescoring(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[Any]:
    nbest = ctc_prefix_beam(log_probs, lengths, options.beam, nbest=options.beam, scorer=options.scorer())
    return [best[0] for best in attention_rescore(nbest, states, lengths, model.decoder.score, ctc_weight=options.ctc_weight)]


METHODS = {"greedy": _greedy, "prefix_beam": _prefix_beam, "attention": _attention, "joint": _joint, "rescoring": _rescoring}
NEEDS_DECODER = ("attention", "joint", "rescoring")
