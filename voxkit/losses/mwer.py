"""Minimum word error training over an n-best list (Prabhavalkar et al. 2018): the expected number of errors, minus its mean."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor


def mwer_loss(scores: Tensor, errors: Tensor, valid: Tensor) -> Tensor:
    """Expected errors under the renormalised scores, less the list's mean (which lowers the variance, not the gradient).

    Args:
        scores: [B, N] log-probabilities of the hypotheses, differentiable.
        errors: [B, N] word errors of each.
        valid: [B, N], which hypotheses there are; one or more per row.

    Returns:
        [B], in words.
    """
    weights = scores.float().masked_fill(~valid, -torch.inf).softmax(-1)
    errors = errors.to(weights.dtype)
    mean = errors.masked_fill(~valid, 0.0).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True)
    return (weights * (errors - mean).masked_fill(~valid, 0.0)).sum(-1)


def word_errors(reference: Sequence[int], hypothesis: Sequence[int], word_starts: Sequence[bool] | None) -> int:
    """Edit distance of two token sequences in words; `word_starts` [V] says which tokens begin one, None counts tokens."""
    from rapidfuzz.distance import Levenshtein

    numbers: dict[tuple[int, ...], int] = {}
    sides = [[numbers.setdefault(word, len(numbers)) for word in _words(side, word_starts)] for side in (reference, hypothesis)]
    return Levenshtein.distance(*sides)


def _words(tokens: Sequence[int], word_starts: Sequence[bool] | None) -> list[tuple[int, ...]]:
    words: list[list[int]] = []
    for token in tokens:
        if not words or word_starts is None or word_starts[token]:
            words.append([])
        words[-1].append(int(token))
    return [tuple(word) for word in words]
