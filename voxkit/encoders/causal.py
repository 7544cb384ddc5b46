"""The Transformer that sees all frames before, with a cache of keys and values: what networks of constant memory stand beside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxkit.nn.feed_forward import FeedForward
from voxkit.nn.rotary import CausalAttention


class CausalLayer(nn.Module):
    """x + attention, + feed-forward; a LayerNorm before each."""

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float = 0.0, activation: str = "swiglu", rotary: bool = True) -> None:
        super().__init__()
        self.norm, self.ffn_norm, self.dropout = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Dropout(dropout)
        self.attention, self.ffn = CausalAttention(dim, heads, rotary), FeedForward(dim, ffn, dropout, activation)

    def stream(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The next places [B, n, D] → [B, n, D], and the state after them."""
        y, state = self.attention(self.norm(x), state)
        x = x + self.dropout(y)
        return x + self.dropout(self.ffn(self.ffn_norm(x))), state


class CausalTransformer(nn.Module):
    """Projection, layers, a last norm; streams as LaCTEncoder does, with a state that grows.

    Args:
        input_dim: width of what comes in; dim, heads, ffn, layers, dropout, activation: as a LaCT encoder's.
    """

    def __init__(self, input_dim: int, dim: int, heads: int, ffn: int, layers: int, dropout: float = 0.0,
                 activation: str = "swiglu") -> None:
        super().__init__()
        self.output_dim = dim
        self.input, self.norm = nn.Linear(input_dim, dim), nn.LayerNorm(dim)
        self.layers = nn.ModuleList(CausalLayer(dim, heads, ffn, dropout, activation) for _ in range(layers))

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first frame: keys and values of each layer."""
        like = torch.zeros(batch_size, 0, device=device)
        return tuple(x for layer in self.layers for x in layer.attention.init_state(like))

    def stream(self, x: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames [B, n, F], any number of them → states [B, n, D], and the state after them."""
        x, after = self.input(x), []
        for at, layer in enumerate(self.layers):
            x, own = layer.stream(x, (state[2 * at], state[2 * at + 1]))
            after += own
        return self.norm(x), tuple(after)
