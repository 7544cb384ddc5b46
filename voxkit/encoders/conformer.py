"""The Conformer encoder (Gulati et al. 2020, arXiv 2005.08100): half a feed-forward, attention, convolution, half a feed-forward.

The convolution is normalized by a LayerNorm where the paper has a BatchNorm, whose statistics would depend on the padding of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.encoders.transformer import TransformerConfig, TransformerEncoder
from voxkit.nn.depthwise import depthwise
from voxkit.nn.feed_forward import FeedForward
from voxkit.nn.relative import RelativeAttention, SelfAttention


@dataclass
class ConformerConfig(TransformerConfig):
    """Attributes: as the Transformer's, and kernel: frames that the convolution sees, odd."""

    positions: str = "relative"
    kernel: int = 15

    def problems(self) -> list[str]:
        found = super().problems()
        if self.kernel < 1 or self.kernel % 2 == 0:
            found.append(f"kernel: {self.kernel} is not odd, so that no frame would be in its middle")
        return found


class ConvolutionModule(nn.Module):
    """Pointwise → gated linear unit → depthwise over time → LayerNorm → swish → pointwise."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.half = kernel // 2

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, D], mask [B, T] → [B, T, D]; padding counts as zeros, as what lies beyond a batch does."""
        y = F.glu(self.into(x), dim=-1).masked_fill(~mask[..., None], 0.0)
        y = depthwise(y.transpose(1, 2), self.depthwise.weight, self.depthwise.bias, self.half).transpose(1, 2)
        return self.out(F.silu(self.norm(y)))


class ConformerLayer(nn.Module):
    """One block."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        d = config.dim
        attention = RelativeAttention if config.positions == "relative" else SelfAttention
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(5))
        self.first, self.last = (FeedForward(d, config.ffn, config.dropout, "swish") for _ in range(2))
        self.attention = attention(d, config.heads, config.dropout)
        self.convolution = ConvolutionModule(d, config.kernel)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], mask [B, T] True = valid → x, attention weights [B, H, T, T] or None."""
        x = x + 0.5 * self.dropout(self.first(self.norms[0](x)))
        y, weights = self.attention.attend(self.norms[1](x), mask[:, None, None, :], need_weights)
        x = x + self.dropout(y)
        x = x + self.dropout(self.convolution(self.norms[2](x), mask))
        x = x + 0.5 * self.dropout(self.last(self.norms[3](x)))
        return self.norms[4](x), weights


class ConformerEncoder(TransformerEncoder):
    """Projection, Conformer layers, a last norm. The frame rate stays as it is."""

    layer = ConformerLayer
