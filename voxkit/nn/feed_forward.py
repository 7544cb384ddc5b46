"""The position-wise feed-forward of Transformers and Conformers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """silu of the first half of the channels times the second (Shazeer 2020, arXiv 2002.05202): [..., 2 H] → [..., H]."""

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, -1)
        return F.silu(gate) * value


ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "swish": nn.SiLU, "swiglu": SwiGLU}


class FeedForward(nn.Module):
    """Linear → activation → dropout → linear, every frame for itself.

    Args:
        dim: width in and out; hidden: inner width, after the activation.
        dropout: after the activation, in training.
        activation: gelu, relu, swish, or swiglu, whose first linear map is twice as wide.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, activation: str = "gelu") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
        wide = 2 * hidden if activation == "swiglu" else hidden
        self.layers = nn.Sequential(nn.Linear(dim, wide), ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.layers(x)
