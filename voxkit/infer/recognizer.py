"""Recognizer: audio → Hypothesis, by any of the searches, for one file or a batch.

    recognizer = Recognizer.load("exp/.../checkpoints/best")
    print(recognizer.transcribe("order.wav").text)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Sequence

import torch
from torch import Tensor

from voxkit.audio.io import read_audio
from voxkit.batch import Batch
from voxkit.hypothesis import Hypothesis, Word
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.search.greedy import ctc_greedy
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.text.tokenizer import Tokenizer


@dataclass
class SearchOptions:
    """How to search.

    Attributes:
        method: one of METHODS.
        beam: hypotheses kept.
        ctc_weight: of the CTC score in joint decoding and rescoring; the rest is the decoder's.
        lm, lm_weight: an n-gram scorer over the same tokens, and its weight.
        length_bonus: added per token.
        words: also give word times and confidences.
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm: Any = None
    lm_weight: float = 0.3
    length_bonus: float = 0.0
    words: bool = False


class Recognizer:
    """A model with a CTC head and maybe an attention decoder, its tokenizer, and the searches over their scores.

    Args:
        model: with `encode(batch)`, `ctc_log_probs(states)`, `decoder` (or None) and `seconds_per_frame`.
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

    def transcribe(self, audio: str | os.PathLike | Tensor, options: SearchOptions | None = None) -> Hypothesis:
        """One file, or one waveform [S] at 16 kHz."""
        wave = audio if isinstance(audio, Tensor) else read_audio(audio)[0]
        batch = Batch(ids=[str(audio) if not isinstance(audio, Tensor) else "audio"], lengths=torch.tensor([len(wave)]), audio=wave[None])
        return self.recognize(batch, options)[0]

    @torch.inference_mode()
    def recognize(self, batch: Batch, options: SearchOptions | None = None) -> list[Hypothesis]:
        """A batch → its hypotheses, in order."""
        options = options or SearchOptions()
        if options.method not in METHODS:
            raise ValueError(f"decode.method: {options.method!r} is none of {', '.join(METHODS)}")
        batch = batch.to(self.device)
        states, lengths = self.model.encode(batch)
        log_probs = self.model.ctc_log_probs(states)
        if options.method in NEEDS_DECODER and self.model.decoder is None:
            raise ValueError(f"decode.method: {options.method} needs an attention decoder, and this model was trained with CTC alone; "
                             "use greedy or prefix_beam")
        found = METHODS[options.method](self.model, states, lengths, log_probs, options)
        return [self._hypothesis(h, int(n), options.words) for h, n in zip(found, lengths)]

    def _hypothesis(self, found: CtcHypothesis, num_frames: int, with_words: bool) -> Hypothesis:
        step = self.model.seconds_per_frame
        words: list[Word] = []
        if with_words and found.tokens and len(found.frames) == len(found.tokens):
            from voxkit.align.words import words_from_tokens

            words = words_from_tokens(found.tokens, found.frames, found.token_log_probs, self.tokenizer.pieces, step, num_frames)
        text = self.tokenizer.decode(found.tokens)
        return Hypothesis(text, words, float(found.score), list(found.tokens), num_frames * step)


def _greedy(model, states, lengths, log_probs, options):
    return ctc_greedy(log_probs, lengths)


def _prefix_beam(model, states, lengths, log_probs, options):
    nbest = ctc_prefix_beam(log_probs, lengths, beam=options.beam, lm=options.lm, lm_weight=options.lm_weight,
                            length_bonus=options.length_bonus)
    return [hypotheses[0] for hypotheses in nbest]


def _attention(model, states, lengths, log_probs, options):
    from voxkit.search.attention import attention_beam

    return attention_beam(model.decoder, states, lengths, beam=options.beam, lm=options.lm, lm_weight=options.lm_weight,
                          length_bonus=options.length_bonus)


def _joint(model, states, lengths, log_probs, options):
    from voxkit.search.attention import joint_beam

    return joint_beam(model.decoder, states, lengths, log_probs, beam=options.beam, ctc_weight=options.ctc_weight, lm=options.lm,
                      lm_weight=options.lm_weight, length_bonus=options.length_bonus)


def _rescoring(model, states, lengths, log_probs, options):
    from voxkit.search.attention import attention_rescore

    nbest = ctc_prefix_beam(log_probs, lengths, beam=options.beam, lm=options.lm, lm_weight=options.lm_weight,
                            length_bonus=options.length_bonus)
    return attention_rescore(nbest, model.decoder.score, states, lengths, ctc_weight=options.ctc_weight)


METHODS = {"greedy": _greedy, "prefix_beam": _prefix_beam, "attention": _attention, "joint": _joint, "rescoring": _rescoring}
NEEDS_DECODER = ("attention", "joint", "rescoring")
