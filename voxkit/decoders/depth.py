"""The books of a frame, one after the other: a small Transformer over depth (the depth transformer of Moshi, arXiv 2410.00037).

For each frame, place 0 holds what the network over time says of it, and place q what book q - 1 of the frame is; place q says what book q
will be. Frames do not see one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxkit.nn.feed_forward import FeedForward
from voxkit.nn.rotary import CausalAttention

DepthState = tuple[Tensor, ...]


@dataclass
class DepthConfig:
    """Attributes: dim: width; heads; ffn: inner width of the feed-forward; layers; dropout."""

    dim: int = 192
    heads: int = 4
    ffn: int = 384
    layers: int = 2
    dropout: float = 0.0

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is below 1" for name in ("dim", "heads", "ffn", "layers") if getattr(self, name) < 1]
        if self.dim % max(1, self.heads) or self.dim // max(1, self.heads) % 2:
            found.append(f"heads: {self.heads} heads of dim {self.dim} are not of an even width")
        return found


class DepthTransformer(nn.Module):
    """Args:
    config: sizes.
    input_dim: width of the states over time.
    codebooks, size: books, and entries of each.
    """

    def __init__(self, config: DepthConfig, input_dim: int, codebooks: int, size: int) -> None:
        super().__init__()
        self.codebooks, self.size, d = codebooks, size, config.dim
        self.input = nn.Linear(input_dim, d)
        self.embedding = nn.Parameter(torch.randn(max(codebooks - 1, 0), size, d) * d**-0.5)
        self.place = nn.Parameter(torch.randn(codebooks, d) * d**-0.5)
        self.norms = nn.ModuleList(nn.ModuleList((nn.LayerNorm(d), nn.LayerNorm(d))) for _ in range(config.layers))
        self.attentions = nn.ModuleList(CausalAttention(d, config.heads, rotary=False) for _ in range(config.layers))
        self.ffns = nn.ModuleList(FeedForward(d, config.ffn, config.dropout, "swiglu") for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.output = nn.Parameter(torch.randn(codebooks, d, size) * d**-0.5)

    def forward(self, states: Tensor, codes: Tensor) -> Tensor:
        """Teacher forcing: states [N, D] of frames, codes [N, Q] → logits [N, Q, K]; those of book q know the books before it."""
        before = [self.embedding[q][codes[:, q]] for q in range(self.codebooks - 1)]
        x = torch.stack([self.input(states), *before], 1) + self.place
        x, _ = self._layers(x, self.init_state(x))
        return torch.einsum("nqd,qdk->nqk", x, self.output)

    def init_state(self, like: Tensor) -> DepthState:
        """Before the first book of N frames: no keys and values, for each layer two."""
        return tuple(x for attention in self.attentions for x in attention.init_state(like))  # type: ignore[operator]

    def step(self, book: int, given: Tensor, state: DepthState) -> tuple[Tensor, DepthState]:
        """One book: its number; for book 0 the states [N, D], else the codes [N] of the book before → logits [N, K], and the state."""
        x = (self.input(given) if book == 0 else self.embedding[book - 1][given]) + self.place[book]
        x, state = self._layers(x[:, None], state)
        return x[:, 0] @ self.output[book], state

    def _layers(self, x: Tensor, state: DepthState) -> tuple[Tensor, DepthState]:
        after: list[Tensor] = []
        for at, (norms, attention, ffn) in enumerate(zip(self.norms, self.attentions, self.ffns)):
            y, own = attention(norms[0](x), (state[2 * at], state[2 * at + 1]))  # type: ignore[index]
            x = x + y
            x = x + ffn(norms[1](x))  # type: ignore[index]
            after += own
        return self.norm(x), tuple(after)
