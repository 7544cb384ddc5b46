"""Bottleneck between a pretrained encoder and the network that is trained on it."""

from __future__ import annotations

from torch import Tensor, nn


class Adapter(nn.Sequential):
    """LayerNorm → input_dim → hidden_dim → GELU → dropout → output_dim (WavLM Base: 768 → 512 → 512). [..., D] → [..., D']."""

    def __init__(self, input_dim: int, hidden_dim: int = 512, output_dim: int = 512, dropout: float = 0.1):
        super().__init__(nn.LayerNorm(input_dim), nn.Linear(input_dim, hidden_dim), nn.GELU(), nn.Dropout(dropout),
                         nn.Linear(hidden_dim, output_dim))
        self.input_dim, self.output_dim = input_dim, output_dim

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, input_dim] → [B, T, output_dim]."""
        return super().forward(x)
