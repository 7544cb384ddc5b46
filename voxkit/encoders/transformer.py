"""The Transformer encoder (Vaswani et al. 2017; pre-norm): self-attention and feed-forward over whole utterances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxkit.masks import lengths_to_mask
from voxkit.nn.feed_forward import FeedForward
from voxkit.nn.positions import POSITIONS, LearnedPositions
from voxkit.nn.relative import RelativeAttention, SelfAttention
from voxkit.ops.checks import check_lengths, check_shapes

Between = Callable[[int, Tensor], Tensor]


@dataclass
class TransformerConfig:
    """Attributes: dim: width; heads; ffn: inner width of the feed-forward; layers; dropout; positions: sinusoidal, learned, relative or
    none; max_positions: of learned ones, frames."""

    dim: int = 256
    heads: int = 4
    ffn: int = 1024
    layers: int = 12
    dropout: float = 0.1
    positions: str = "sinusoidal"
    max_positions: int = 2000

    def problems(self) -> list[str]:
        found = [] if self.dim % self.heads == 0 else [f"heads: {self.heads} does not divide dim {self.dim}"]
        if self.positions not in POSITIONS:
            found.append(f"positions: {self.positions!r} is none of {', '.join(POSITIONS)}")
        found += [f"{name}: {getattr(self, name)} is below 1" for name in ("dim", "heads", "ffn", "layers") if getattr(self, name) < 1]
        return found


class TransformerLayer(nn.Module):
    """x + self-attention, + feed-forward; a LayerNorm before each."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        attention = RelativeAttention if config.positions == "relative" else SelfAttention
        self.attention_norm, self.ffn_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.attention = attention(config.dim, config.heads, config.dropout)
        self.ffn = FeedForward(config.dim, config.ffn, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], mask [B, T] True = valid → x, attention weights [B, H, T, T] or None."""
        y, weights = self.attention.attend(self.attention_norm(x), mask[:, None, None, :], need_weights)
        x = x + self.dropout(y)
        return x + self.dropout(self.ffn(self.ffn_norm(x))), weights


class TransformerEncoder(nn.Module):
    """Projection, positions, layers, a last norm. The frame rate stays as it is.

    Args:
        config: sizes.
        input_dim: width of what comes in.

    Attributes:
        place_dims: widths at the input and after each layer.
    """

    layer = TransformerLayer
    downsampling = 1

    def __init__(self, config: TransformerConfig, input_dim: int) -> None:
        super().__init__()
        self.config, self.output_dim, self.checkpointing = config, config.dim, False
        self.place_dims = [input_dim] + config.layers * [config.dim]
        self.input = nn.Linear(input_dim, config.dim)
        more = {"most": config.max_positions} if POSITIONS[config.positions] is LearnedPositions else {}
        self.positions = POSITIONS[config.positions](config.dim, **more)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(self.layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, lengths: Tensor, between: Between | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, F], lengths [B] → states [B, T, D], lengths [B]. What padding holds does not matter.

        Args:
            between: what to make of each layer's output before it goes on: (number of the layer from 1, [B, T, D]) → [B, T, D].
        """
        return self._run(x, lengths, None, between), lengths

    def attention_weights(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Self-attention of every layer: [layers, B, H, T, T]."""
        kept: list[Tensor] = []
        self._run(x, lengths, kept)
        return torch.stack(kept)

    def _run(self, x: Tensor, lengths: Tensor, kept: list[Tensor] | None, between: Between | None = None) -> Tensor:
        check_shapes({"x": (x, "BTF"), "lengths": (lengths, "B")}, F=self.input.in_features)
        check_lengths(lengths, x.shape[1])
        mask = lengths_to_mask(lengths, x.shape[1])
        x = self.dropout(self.positions(self.input(x)))
        for place, layer in enumerate(self.layers, 1):
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x, weights = checkpoint(layer, x, mask, kept is not None, use_reentrant=False)
            else:
                x, weights = layer(x, mask, kept is not None)
            x = x if between is None else between(place, x)
            if kept is not None:
                kept.append(weights)
        return self.norm(x)
