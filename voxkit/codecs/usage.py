"""How the books of a codec are used: what their entries are worth in bits."""

from __future__ import annotations

import torch


def book_counts(codes: torch.Tensor, lengths: torch.Tensor, size: int) -> torch.Tensor:
    """codes [B, T, Q], lengths [B] → [Q, size], how often each entry was said."""
    on = torch.arange(codes.shape[1], device=lengths.device) < lengths[:, None]
    return torch.stack([torch.bincount(codes[..., q][on], minlength=size) for q in range(codes.shape[2])]).float().cpu()


def book_entropy(counts: torch.Tensor) -> torch.Tensor:
    """[Q, size] → bits of each book [Q]; perplexity is 2 to that."""
    p = counts / counts.sum(1, keepdim=True).clamp(min=1)
    return -(p * p.clamp(min=1e-12).log2()).sum(1)
