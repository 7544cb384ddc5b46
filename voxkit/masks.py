"""Masks. One convention everywhere: True = valid frame (may be attended to, counts in the loss)."""

from __future__ import annotations

import torch
from torch import Tensor


def lengths_to_mask(lengths: Tensor, max_len: int | None = None) -> Tensor:
    """Lengths [B] → validity mask [B, max_len] (bool, True = valid); max_len defaults to the longest."""
    if max_len is None:
        max_len = int(lengths.max())
    return torch.arange(max_len, device=lengths.device)[None, :] < lengths[:, None]


def causal_mask(size: int, device: torch.device | str | None = None) -> Tensor:
    """[size, size], True where query i may see key j <= i."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def chunk_mask(size: int, chunk: int, left_chunks: int = -1, device: torch.device | str | None = None) -> Tensor:
    """[size, size], True where query i may see key j: its own chunk, whole, and `left_chunks` before it (-1: all)."""
    index = torch.arange(size, device=device) // chunk
    seen = index[None, :] <= index[:, None]
    if left_chunks >= 0:
        seen &= index[None, :] >= index[:, None] - left_chunks
    return seen
