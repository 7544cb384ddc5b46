"""Causal attention over everything before, with rotary positions (Su et al. 2021, arXiv 2104.09864) and a cache of keys and values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotate(x: Tensor, start: int) -> Tensor:
    """x [B, H, T, d] at places start, start + 1, ... → the same, pairs of numbers turned by angles that grow with the place."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = (torch.arange(x.shape[2], device=x.device) + start)[:, None] * rates
    a, b = x.float().chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a place sees itself and what is before it.

    Args:
        dim: width; heads: of an even width each.
        rotary: turn queries and keys by their places; False where the input says its place.
    """

    def __init__(self, dim: int, heads: int, rotary: bool = True) -> None:
        super().__init__()
        if dim % heads or dim // heads % 2:
            raise ValueError(f"heads: {heads} heads of dim {dim} are not of an even width")
        self.heads, self.rotary = heads, rotary
        self.project, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def init_state(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values before the first place: none, [B, H, 0, d] each."""
        empty = like.new_zeros(len(like), self.heads, 0, self.output.in_features // self.heads)
        return empty, empty

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next places [B, n, D], any number of them; state: keys and values of all before → [B, n, D], and the state after them."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.project(x).chunk(3, -1))
        before, size = state[0].shape[2], x.shape[1]
        if self.rotary:
            q, k = rotate(q, before), rotate(k, before)
        k, v = torch.cat((state[0], k), 2), torch.cat((state[1], v), 2)
        mask = None
        if before and size > 1:
            mask = torch.ones(size, before + size, dtype=torch.bool, device=x.device).tril(before)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=not before and size > 1)
        return self.output(out.transpose(1, 2).flatten(2)), (k, v)
