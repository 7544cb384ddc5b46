"""Minimum word error rate training by sampling (Prabhavalkar et al. 2018; for Paraformer Gao et al. 2022), over tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask


def substitution_risk(logits: Tensor, tokens: Tensor, token_lengths: Tensor, samples: int = 4) -> Tensor:
    """Expected errors of sampled hypotheses, relative to their mean.

    A parallel decoder's hypotheses all have the length it was given, so that their errors are substitutions, counted place by place;
    the sum over samples of p(y) (errors(y) - mean errors), p normalised over the samples, has the gradient that makes the better
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
