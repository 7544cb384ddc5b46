"""The position-wise feed-forward of Transformers and Conformers."""

from __future__ import annotations

from torch import Tensor, nn

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "swish": nn.SiLU}


class FeedForward(nn.Module):
    """Linear → activation → dropout → linear, every frame for itself.

    Args:
        dim: width in and out; hidden: inner width.
        dropout: after the activation, in training.
        activation: gelu, relu or swish.
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, activation: str = "gelu") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
        self.layers = nn.Sequential(nn.Linear(dim, hidden), ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.layers(x)
