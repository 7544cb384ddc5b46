"""A language model by its path: ARPA, KenLM's binary, or the directory of a neural one; always over the tokenizer's pieces."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from voxkit.search.ngram import NgramModel
from voxkit.search.ngram_scorer import KenlmScorer, NgramScorer, check_complete
from voxkit.search.scorer import Scorer
from voxkit.text.tokenizer import UNK, Tokenizer

_KENLM = b"mmap lm http://kheafield.com/code"


def load_language_model(path: str | os.PathLike, tokenizer: Tokenizer, device: torch.device | str = "cpu") -> Scorer:
    """The scorer that a path means.

    Raises:
        ValueError: nothing there, nothing of the three kinds, or over other tokens; MissingPackage: kenlm for a binary.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no language model at {path}; `voxkit lm train` makes an n-gram, `voxkit lm train-neural` a neural one")
    if path.is_dir():
        from voxkit.infer.neural_lm import load_neural_lm

        return load_neural_lm(path, tokenizer, device)
    with path.open("rb") as file:
        binary = file.read(len(_KENLM)) == _KENLM
    if binary:
        return KenlmScorer(path, tokenizer.pieces)
    model = NgramModel.read(path)
    check_complete(model, tokenizer.pieces[UNK + 1:], str(path))
    return NgramScorer(model, tokenizer.pieces)
