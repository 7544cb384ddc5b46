"""Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): each number is bounded and rounded, and nothing has to be learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from voxkit.codecs.quantizer import Quantized, QuantizerConfig


class FiniteScalar(nn.Module):
    """Q books, each over its own len(levels) numbers of the input. Books that are left out decode to zeros.

    Args:
        config: of kind finite_scalar; `levels`, `codebooks` and `dropout` count.
    """

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config, self.codebooks, self.size = config, config.codebooks, math.prod(config.levels)
        self.dim = self.codebooks * len(config.levels)
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("weights", torch.cat((torch.ones(1, dtype=torch.long), levels.cumprod(0)[:-1])), persistent=False)

    def forward(self, x: Tensor, valid: Tensor, used: Tensor | None = None) -> Quantized:
        """As `ResidualVQ.forward`; the commitment is 0."""
        if used is None:
            used = self.config.draw(len(x), self.training, x.device)
        bounded = self._bounded(x)
        places = bounded + (bounded.round() - bounded).detach()
        on = torch.arange(self.codebooks, device=x.device) < used[:, None]
        values = self._values(places) * on[:, None, :, None]
        return Quantized(values.flatten(2), self._codes(places.detach()), x.new_zeros(()))

    def codes(self, x: Tensor) -> Tensor:
        """x [B, T, D] → codes [B, T, Q]."""
        return self._codes(self._bounded(x).round())

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes [B, T, q] of the first q books → [B, T, D]."""
        places = codes[..., None] // self.weights % self.levels
        values = self._values(places - self.levels // 2)
        return torch.cat((values, values.new_zeros(*codes.shape[:2], self.codebooks - codes.shape[2], len(self.levels))), 2).flatten(2)

    def learn(self) -> None:
        """There is nothing to learn."""

    def forget(self) -> None:
        """There is nothing to forget."""

    def _bounded(self, x: Tensor) -> Tensor:
        """[B, T, Q, L]: each number between the lowest and the highest place of its levels, which rounding then takes to -L // 2 ..."""
        x = x.unflatten(2, (self.codebooks, len(self.levels)))
        half = (self.levels - 1) * (1 + 1e-3) / 2  # a little more than half the range: two levels have a shift, too
        shift = torch.where(self.levels % 2 == 0, 0.5, 0.0)  # an even number of levels lies at -L/2 ... L/2 - 1
        return (x + torch.atanh(shift / half)).tanh() * half - shift

    def _values(self, places: Tensor) -> Tensor:
        return places / (self.levels // 2)

    def _codes(self, places: Tensor) -> Tensor:
        return ((places.round().long() + self.levels // 2) * self.weights).sum(-1)
