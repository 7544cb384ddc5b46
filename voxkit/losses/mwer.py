"""Minimum word error training (Prabhavalkar et al. 2018): the expected number of errors, over an n-best list or over samples."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask


def mwer_loss(scores: Tensor, errors: Tensor, valid: Tensor) -> Tensor:
    """Expected errors under the renormalized scores, less the list's mean (which lowers the variance, not the gradient).

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


def substitution_risk(logits: Tensor, tokens: Tensor, token_lengths: Tensor, samples: int = 4) -> Tensor:
    """Expected errors of sampled hypotheses of a parallel decoder, relative to their mean (for Paraformer: Gao et al. 2022).

    A parallel decoder's hypotheses all have the length it was given, so that their errors are substitutions, counted place by place;
    the sum over samples of p(y) (errors(y) - mean errors), p normalized over the samples, has the gradient that makes the better
    ones likelier.

    Args:
        logits: [B, U, V]; tokens: [B, U]; token_lengths: [B].
        samples: hypotheses drawn per utterance, at least 2.

    Returns:
        [B], in tokens.
    """
    if samples < 2:
        raise ValueError(f"mwer needs at least 2 samples to compare, not {samples}")
    log_probs = logits.float().log_softmax(-1)
    valid = lengths_to_mask(token_lengths, tokens.shape[1])
    with torch.no_grad():
        drawn = log_probs.exp().flatten(0, 1).multinomial(samples, replacement=True).view(*tokens.shape, samples)
        errors = ((drawn != tokens[..., None]) & valid[..., None]).sum(1).float()  # [B, S]
    scores = (log_probs.gather(2, drawn) * valid[..., None]).sum(1)
    return (scores.softmax(1) * (errors - errors.mean(1, keepdim=True))).sum(1)
