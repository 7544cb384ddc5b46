"""CIF weights between boundaries that are known: how much each token gets, and weights that give each token exactly one.

A boundary is a time in frames, where frame t spans t to t + 1; one inside a frame cuts its weight in proportion.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.ops.checks import check_shapes

_LEAST = 1e-2  # of weight between two boundaries, in a division: gradients stay within a hundred times those of the token


class Boundaries(NamedTuple):
    """Attributes:
    times: [B, U - 1] float, rising: where token u ends and u + 1 begins; inf from an utterance's last token on.
    known: [B] bool; False: nothing is known about this utterance, and its times mean nothing.
    """

    times: Tensor
    known: Tensor


def token_masses(weights: Tensor, times: Tensor) -> Tensor:
    """Weight of each token: weights [B, T] (0 in padding), times [B, U - 1] of Boundaries → [B, U], 0 past the last token."""
    check_shapes({"weights": (weights, "BT"), "times": (times, "BU")})
    return _sums(weights, times)[1].diff(dim=1).to(weights.dtype)


def scale_to_boundaries(weights: Tensor, boundaries: Boundaries, counts: Tensor) -> Tensor:
    """Scale the weights token by token, so that each gets 1 from between its boundaries.

    Args:
        weights: [B, T], 0 or more, 0 in padding.
        counts: [B] long, tokens of each utterance, U at most.

    Returns:
        [B, T], of which CIF makes the vectors of the stretches between the boundaries (a token fires somewhere in the frame that its
        boundary cuts); an utterance whose boundaries are not known is scaled as a whole, to sum to its count.
    """
    times, known = boundaries
    check_shapes({"weights": (weights, "BT"), "times": (times, "BU"), "known": (known, "B"), "counts": (counts, "B")})
    whole = weights * (counts / weights.sum(1).clamp(min=1e-4))[:, None]
    if not bool(known.any()):
        return whole
    sums, knots = _sums(weights, times)
    edges = torch.arange(sums.shape[1], device=weights.device, dtype=times.dtype).expand(len(weights), -1).contiguous()
    token = torch.searchsorted(times.contiguous(), edges, right=True)  # in which token each edge between two frames lies
    share = (sums - knots.gather(1, token)) / knots.diff(dim=1).clamp(min=_LEAST).gather(1, token)
    scaled = (token + share.clamp(0, 1)).diff(dim=1).to(weights.dtype)
    return torch.where((known & (counts > 0))[:, None], scaled, whole)


def _sums(weights: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Running sums [B, T + 1] at the edges of frames, and [B, U + 1] at the beginning, the boundaries and the end."""
    length = weights.shape[1]
    sums = F.pad(weights.double().cumsum(1), (1, 0))
    if length == 0:
        return sums, sums.expand(-1, times.shape[1] + 2)
    times = F.pad(F.pad(times, (1, 0)), (0, 1), value=torch.inf).clamp(max=length)
    frame = times.long().clamp(max=length - 1)
    before = sums.gather(1, frame)
    return sums, before + (times - frame) * (sums.gather(1, frame + 1) - before)
