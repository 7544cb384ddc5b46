"""A language model by its path: ARPA, KenLM's binary, or the directory of a neural one; always over a vocabulary's pieces."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from voxkit.search.ngram import NgramModel
from voxkit.search.ngram_scorer import KenlmScorer, NgramScorer
from voxkit.search.ngram_table import check_complete
from voxkit.search.recurrent_scorer import RecurrentScorer
from voxkit.search.scorer import NeuralScorer, Scorer
from voxkit.text.vocabulary import Vocabulary

_KENLM = b"mmap lm http://kheafield.com/code"


def load_language_model(path: str | os.PathLike, vocabulary: Vocabulary, device: torch.device | str = "cpu") -> Scorer:
    """The scorer that a path means.

    Raises:
        ValueError: nothing there, nothing of the three kinds, or over other tokens; MissingPackage: kenlm for a binary.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no language model at {path}; `voxkit lm train` makes an n-gram, `voxkit lm train-neural` a neural one")
    if path.is_dir():
        return _neural(path, vocabulary, device)
    with path.open("rb") as file:
        binary = file.read(len(_KENLM)) == _KENLM
    if binary:
        return KenlmScorer(path, _names(vocabulary))
    model = NgramModel.read(path)
    nothing = {*vocabulary.specials, vocabulary.unk}
    check_complete(model, [piece for i, piece in enumerate(vocabulary.pieces) if i not in nothing], str(path))
    return NgramScorer(model, _names(vocabulary))


def _neural(path: Path, vocabulary: Vocabulary, device: torch.device | str) -> Scorer:
    from voxkit.infer.checkpoint import load_checkpoint

    loaded = load_checkpoint(path, device)
    if loaded.setup.system.use != "language_model":
        raise ValueError(f"{loaded.path}: a {loaded.setup.config.system}, not a language model; `voxkit lm train-neural` makes one")
    if loaded.vocabulary.fingerprint() != vocabulary.fingerprint():
        raise ValueError(f"{loaded.path} is over other tokens ({loaded.vocabulary.fingerprint()}) than the recognizer's "
                         f"({vocabulary.fingerprint()}): train one with `voxkit lm train-neural --tokenizer` on this tokenizer")
    model = loaded.model
    if model.config.kind == "lstm":
        return RecurrentScorer(model.advance, model.bos, model.eos)
    return NeuralScorer(model.next_log_probs, model.bos, model.eos)


def _names(vocabulary: Vocabulary) -> list[str]:
    """The n-gram's word for every token: its piece; a search may offer special tokens, but nobody says them."""
    return ["<unk>" if i == vocabulary.unk or i in vocabulary.specials else piece for i, piece in enumerate(vocabulary.pieces)]
