"""Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762): the fast call of torch, and the formula written out beside it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.ops.checks import check_shapes


def attention_reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √d) v as it stands in the paper.

    Args:
        q: [B, H, U, d]; k, v: [B, H, T, d].
        mask: broadcastable to [B, H, U, T], True where the query may look.

    Returns:
        output [B, H, U, d] and weights [B, H, U, T] (rows sum to 1; a row that may look nowhere is zero).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = torch.nan_to_num(scores.softmax(dim=-1))
    return weights @ v, weights


class MultiHeadAttention(nn.Module):
    """Attention of queries over a memory with its own projections.

    Args:
        dim: width of queries and output.
        heads: number of heads; divides dim.
        memory_dim: width of keys and values; dim where None.
        dropout: on the attention weights, in training.
    """

    def __init__(self, dim: int, heads: int, memory_dim: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"attention width {dim} is not a multiple of its {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(memory_dim or dim, dim, bias=False)  # a key bias cancels in the softmax
        self.value = nn.Linear(memory_dim or dim, dim)
        self.output = nn.Linear(dim, dim)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """memory [B, T, D] → keys and values [B, H, T, d], to be kept while one memory is asked many times."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *,
                need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """x [B, U, D] over keys, values [B, H, T, d] (`keys_values`).

        Args:
            mask: broadcastable to [B, H, U, T], True = may look.
            need_weights: also return the weights [B, H, U, T], by the slow path.
        """
        check_shapes({"x": (x, "BUD"), "keys": (keys, "BHTd"), "values": (values, "BHTd")}, D=self.query.in_features, H=self.heads)
        q = self._split(self.query(x))
        if need_weights:
            out, weights = attention_reference(q, keys, values, mask)
        else:
            out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
            weights = None
        return self.output(out.transpose(1, 2).flatten(2)), weights

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
