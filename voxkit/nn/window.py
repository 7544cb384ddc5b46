"""Attention within a window of neighboring frames: time and memory grow with the length, and a stream needs no more than the last keys.

Positions are a learned bias for each distance and head, so that neither a stream nor a carried state has to know where it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def window_reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, left: int, lengths: Tensor | None = None) -> Tensor:
    """Full attention under a mask; arguments and result as `window_attention`."""
    size, width = q.shape[2], bias.shape[1]
    place = torch.arange(size, device=q.device)
    slot = place[None, :] - place[:, None] + left  # of key j for query i in the bias
    seen = (slot >= 0) & (slot < width)
    if lengths is not None:
        seen = seen & (place < lengths[:, None])[:, None, None, :]
    scores = q @ k.mT * q.shape[-1] ** -0.5 + bias[:, slot.clamp(0, width - 1)]
    return torch.nan_to_num(scores.masked_fill(~seen, float("-inf")).softmax(-1)) @ v


def window_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, left: int, lengths: Tensor | None = None) -> Tensor:
    """Each query sees `left` keys before its own place, its own, and as many after it as the bias has room for.

    Queries go in blocks as long as the window reaches to one side; each block sees the stretch of keys around it.

    Args:
        q, k, v: [B, H, T, d], one key for each query.
        bias: [H, left + 1 + right], added to the scores, by distance from the farthest key before to the farthest after.
        lengths: [B], where each sequence ends; None = at T.

    Returns:
        [B, H, T, d]; means nothing past a length.
    """
    batch, heads, size, dim = q.shape
    right = bias.shape[1] - left - 1
    lengths = lengths if right else None  # a causal query within its sequence sees no padding
    block = max(left, right, 16)
    count = -(-size // block)
    q = F.pad(q, (0, 0, 0, count * block - size)).view(batch, heads, count, block, dim)
    reach = (0, 0, left, count * block - size + right)
    k, v = (F.pad(x, reach).unfold(2, left + block + right, block).mT for x in (k, v))  # [B, H, count, left + block + right, d]
    near = _by_distance(bias, block)
    key = torch.arange(count, device=q.device)[:, None] * block + torch.arange(left + block + right, device=q.device) - left
    there = (key >= 0) & (key < (size if lengths is None else lengths[:, None, None]))  # [count, keys], or [B, count, keys]
    absent = torch.zeros_like(there, dtype=near.dtype).masked_fill_(~there, float("-inf"))
    mask = near[:, None] + absent.unflatten(-2, (1, -1))[..., None, :]
    if lengths is not None:  # [B, H, count, block, keys]; a query past the end may see no key at all
        mask = torch.where(mask.isneginf().all(-1, keepdim=True), 0.0, mask)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
    return out.flatten(2, 3)[:, :, :size]


def _by_distance(bias: Tensor, queries: int) -> Tensor:
    """bias [H, W] → [H, queries, W + queries - 1]: key j for query i has slot j - i; -inf outside of the window."""
    heads, width = bias.shape
    slot = torch.arange(width + queries - 1, device=bias.device) - torch.arange(queries, device=bias.device)[:, None]
    return bias[:, slot.clamp(0, width - 1)].masked_fill((slot < 0) | (slot >= width), float("-inf"))


class WindowAttention(nn.Module):
    """Multi-head attention over a window, of queries, keys and values that were projected before.

    Args:
        heads: number of heads.
        left, right: frames seen before and after a frame's own; right 0 is causal.
    """

    def __init__(self, heads: int, left: int, right: int = 0) -> None:
        super().__init__()
        if left < 0 or right < 0:
            raise ValueError(f"a window of {left} frames before and {right} after: neither can be below 0")
        self.heads, self.left, self.right = heads, left, right
        self.bias = nn.Parameter(torch.zeros(heads, left + 1 + right))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None = None) -> Tensor:
        """q, k, v [B, T, D], lengths [B] → [B, T, D]."""
        out = window_attention(self._split(q), self._split(k), self._split(v), self.bias, self.left, lengths)
        return out.transpose(1, 2).flatten(2)

    def init_state(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values before the first frame: none yet, [B, 0, D] each."""
        return like[:, :0], like[:, :0]

    def stream(self, q: Tensor, k: Tensor, v: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next frames, any number of them: q, k, v [B, n, D], state: the last `left` keys and values → [B, n, D], state.

        Raises:
            ValueError: a window that looks ahead.
        """
        if self.right:
            raise ValueError(f"a window that looks {self.right} frames ahead does not stream: use right 0 (causal)")
        size, before = q.shape[1], state[0].shape[1]
        k, v = torch.cat((state[0], k), 1), torch.cat((state[1], v), 1)
        bias = _by_distance(self.bias, size)[:, :, self.left - before:]  # the keys that there are
        out = F.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v), attn_mask=bias.to(q.dtype))
        start = max(0, k.shape[1] - self.left)
        return out.transpose(1, 2).flatten(2), (k[:, start:], v[:, start:])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


