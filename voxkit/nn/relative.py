"""Self-attention with relative positions (Dai et al. 2019, arXiv 1901.02860): scores = (q + u) kᵀ + (q + v) rᵀ, r by distance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.nn.attention import MultiHeadAttention
from voxkit.nn.positions import distances


def shift_distances(x: Tensor) -> Tensor:
    """Scores by distance → scores by key: [..., T, 2T - 1], whose column j is distance T - 1 - j, → [..., T, T].

    Query i meets key k at distance i - k, in column T - 1 - i + k: row by row the window moves one to the left. Padding each row by one
    and reading the same memory in rows one shorter does that without a gather.
    """
    length = x.shape[-2]
    x = F.pad(x, (1, 0))
    x = x.reshape(*x.shape[:-2], 2 * length, length)[..., 1:, :].reshape(*x.shape[:-2], length, 2 * length - 1)
    return x[..., :length]


def shift_reference(x: Tensor) -> Tensor:
    """The same by its definition."""
    length = x.shape[-2]
    index = length - 1 - torch.arange(length)[:, None] + torch.arange(length)[None, :]
    return x.gather(-1, index.to(x.device).expand(*x.shape[:-2], length, length))


class RelativeAttention(MultiHeadAttention):
    """Multi-head self-attention that sees distances instead of positions.

    Args: as MultiHeadAttention, without another memory.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(dim, heads, dropout=dropout)
        self.position = nn.Linear(dim, dim, bias=False)
        self.key_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads))
        self.position_bias = nn.Parameter(torch.zeros(heads, 1, dim // heads))

    def attend(self, x: Tensor, mask: Tensor | None = None, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D] over itself; mask broadcastable to [B, H, T, T], True = may look → out [B, T, D], weights [B, H, T, T] or None."""
        length, dim = x.shape[1:]
        keys, values = self.keys_values(x)
        q = self._split(self.query(x))
        r = self._split(self.position(distances(length, dim, x.device).to(x.dtype))[None])
        by_distance = shift_distances((q + self.position_bias) @ r.transpose(-2, -1)) / math.sqrt(q.shape[-1])
        q = q + self.key_bias
        if need_weights:
            scores = q @ keys.transpose(-2, -1) / math.sqrt(q.shape[-1]) + by_distance
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            weights = torch.nan_to_num(scores.softmax(-1))
            out = weights @ values
        else:
            bias = by_distance if mask is None else by_distance.masked_fill(~mask, float("-inf"))
            out = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0)
            weights = None
        return self.output(out.transpose(1, 2).flatten(2)), weights


class SelfAttention(MultiHeadAttention):
    """Multi-head self-attention without positions of its own; the interface of RelativeAttention."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(dim, heads, dropout=dropout)

    def attend(self, x: Tensor, mask: Tensor | None = None, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """As RelativeAttention.attend."""
        return self(x, *self.keys_values(x), mask, need_weights=need_weights)
