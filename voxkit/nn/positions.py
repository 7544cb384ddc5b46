"""Positions: fixed sinusoids (Vaswani et al. 2017), learned vectors, and distances for relative attention (Dai et al. 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoids(length: int, dim: int, device: torch.device | str | None = None) -> Tensor:
    """[length, dim] float32: sines in the even columns, cosines in the odd, wavelengths from 2π to 10000·2π."""
    return sinusoids_at(torch.arange(length, device=device), dim)


def distances(length: int, dim: int, device: torch.device | str | None = None) -> Tensor:
    """[2·length - 1, dim] float32: sinusoids of the distances length - 1, ..., 0, ..., -(length - 1) from a query back to a key."""
    return sinusoids_at(torch.arange(length - 1, -length, -1, device=device), dim)


def sinusoids_at(places: Tensor, dim: int) -> Tensor:
    """places [N] → [N, dim] float32, the rows of `sinusoids` at these places."""
    rates = torch.exp(torch.arange(0, dim, 2, device=places.device) * (-math.log(10000.0) / dim))
    angles = places[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]


class SinusoidalPositions(nn.Module):
    """x·√D + sinusoids."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        return x * math.sqrt(self.dim) + sinusoids(x.shape[1], self.dim, x.device).to(x.dtype)


class LearnedPositions(nn.Module):
    """x plus a learned vector per position.

    Args:
        dim: width.
        most: positions there are.
    """

    def __init__(self, dim: int, most: int = 2000) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(most, dim) * dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D].

        Raises:
            ValueError: more positions than were learned.
        """
        if x.shape[1] > len(self.vectors):
            raise ValueError(f"{x.shape[1]} positions, and the learned ones end at {len(self.vectors)}: use shorter utterances, a larger "
                             "max_positions, or positions: sinusoidal or relative, which have no end")
        return x + self.vectors[:x.shape[1]]


class NoPositions(nn.Module):
    """x as it is: the attention adds relative positions itself, or there are none."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


POSITIONS = {"sinusoidal": SinusoidalPositions, "learned": LearnedPositions, "relative": NoPositions, "none": NoPositions}
