"""Positions: fixed sinusoids (Vaswani et al. 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(length: int, dim: int, device: torch.device | str | None = None) -> Tensor:
    """[length, dim] float32: sines in the even columns, cosines in the odd, wavelengths from 2π to 10000·2π."""
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]
