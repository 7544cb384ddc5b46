"""ConvNeXt blocks over frames (Liu et al. 2022, arXiv 2201.03545; one-dimensional as in Vocos, Siuzdak 2023, arXiv 2306.00814)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask


class ConvNeXtBlock(nn.Module):
    """x + scale · (depthwise convolution → LayerNorm → wide → GELU → narrow).

    Args:
        dim, hidden: widths; kernel: frames of the convolution, odd; causal: it sees the past alone.
    """

    def __init__(self, dim: int, hidden: int, kernel: int = 7, causal: bool = False, scale: float = 0.3) -> None:
        super().__init__()
        self.causal, self.kernel = causal, kernel
        self.conv = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm, self.wide, self.narrow = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, D], mask [B, T] of what is no padding (None: everything) → [B, T, D]."""
        y = x if mask is None else x * mask[..., None]
        reach = (self.kernel - 1, 0) if self.causal else (self.kernel // 2, self.kernel // 2)
        return self._after(x, F.pad(y, (0, 0, *reach)))

    def init_state(self, like: Tensor) -> Tensor:
        """The frames before the first: [B, kernel - 1, D] zeros."""
        return like.new_zeros(len(like), self.kernel - 1, self.norm.normalized_shape[0])

    def stream(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next frames [B, n, D], any number of them → the same of the output, and the state after them."""
        padded = torch.cat((state, x), 1)
        return (self._after(x, padded) if x.shape[1] else x), padded[:, padded.shape[1] - self.kernel + 1:]

    def _after(self, x: Tensor, padded: Tensor) -> Tensor:
        y = self.norm(self.conv(padded.mT).mT)
        return x + self.scale * self.narrow(F.gelu(self.wide(y)))


class ConvNeXt(nn.Module):
    """Linear map in, blocks, LayerNorm.

    Args:
        input_dim, dim: widths before and inside; layers: blocks.
        expansion: inner width of a block as a multiple of dim; kernel, causal: as a block's.
    """

    def __init__(self, input_dim: int, dim: int, layers: int, expansion: float = 3.0, kernel: int = 7, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.input = nn.Linear(input_dim, dim)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, round(expansion * dim), kernel, causal, 1 / max(layers, 1) ** 0.5)
                                    for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [B, T, F], lengths [B] → [B, T, D]; what padding holds does not matter."""
        mask = None if self.causal else lengths_to_mask(lengths, x.shape[1])
        x = self.input(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def init_state(self, like: Tensor) -> tuple[Tensor, ...]:
        """Before the first frame: one tensor for each block.

        Raises:
            ValueError: blocks that are not causal.
        """
        if not self.causal:
            raise ValueError("a codec that is not causal does not stream: train it with model.codec.causal=true")
        return tuple(block.init_state(like) for block in self.blocks)

    def stream(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames [B, n, F] → [B, n, D], and the state after them."""
        x, after = self.input(x), []
        for block, before in zip(self.blocks, state):
            x, now = block.stream(x, before)
            after.append(now)
        return self.norm(x), tuple(after)
