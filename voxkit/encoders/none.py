"""No encoder: frames go on as the front end gives them, for one whose pretrained encoder has done the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class NoEncoderConfig:
    """Nothing to choose."""


class NoEncoder(nn.Module):
    """Frames in, the same frames out; like every encoder it says its `output_dim`, by how much it thins out frames, and the width at each
    place where CTC heads may stand."""

    downsampling = 1

    def __init__(self, config: NoEncoderConfig, input_dim: int) -> None:
        super().__init__()
        self.output_dim, self.place_dims = input_dim, [input_dim]

    def forward(self, x: Tensor, lengths: Tensor, between: Any = None) -> tuple[Tensor, Tensor]:
        """[B, T, D], lengths [B] → the same."""
        return x, lengths
