"""Consistency-regularized CTC (Yao et al. 2024, arXiv 2410.05101): two views of an utterance, masked differently, should say the same.

Where one view is masked it learns from what the other one saw there, and the two keep each other from being too sure. It costs one more
pass of the encoder a batch.
"""

from __future__ import annotations

from torch import Tensor

from voxkit.masks import lengths_to_mask


def consistency_loss(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """KL divergence of each view's frame-wise distributions from the other's, which is taken as given (no gradient).

    Args:
        log_probs: [2B, T, V], of the head of CTC; row b + B is the other view of row b.
        lengths: [2B], frames.

    Returns:
        [2B], summed over frames, in nats.

    Raises:
        ValueError: the rows do not come in pairs.
    """
    if len(log_probs) % 2:
        raise ValueError(f"a consistency loss over {len(log_probs)} rows: they should be two views of each utterance")
    target = log_probs.detach().roll(len(log_probs) // 2, dims=0)
    divergence = (target.exp() * (target - log_probs)).sum(-1)
    return divergence.masked_fill(~lengths_to_mask(lengths, log_probs.shape[1]), 0.0).sum(-1)
