"""How many tokens CTC hears, in the mean over all its paths."""

from __future__ import annotations

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_frames


@torch.no_grad()
def expected_tokens(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> Tensor:
    """The expected number of tokens of CTC's labeling.

    A path has a token at every frame that is neither blank nor as the frame before; frames are independent of one another, so that the
    mean over all paths is a sum over frames: sum over t and tokens v of p_t(v) · (1 - p_{t-1}(v)). The best path says fewer: where a
    token is only likely, it says blank.

    Args:
        log_probs: [B, T, V] normalized, lengths: [B] valid frames.

    Returns:
        [B], float32.
    """
    check_frames(log_probs, lengths, blank)
    mask = lengths_to_mask(lengths, log_probs.shape[1])
    p = log_probs.float().exp().masked_fill(~mask[..., None], 0.0).index_fill(2, torch.tensor([blank], device=log_probs.device), 0.0)
    return p.sum((1, 2)) - (p[:, 1:] * p[:, :-1]).sum((1, 2))
