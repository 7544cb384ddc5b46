"""A depthwise convolution that looks ahead only within its chunk (Zipformer's, for streaming)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.nn.depthwise import depthwise


class ChunkCausalDepthwiseConv(nn.Module):
    """The sum of a causal depthwise convolution with half the kernel and one with the whole kernel that is cut at the borders of
    chunks; the latter is scaled by a learned factor that depends on the place within the chunk, since it sees less near a border.

    Args:
        channels: width.
        kernel: odd.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a convolution kernel of {kernel} is even; it must be odd")
        self.causal = nn.Conv1d(channels, channels, (kernel + 1) // 2, groups=channels)
        self.chunkwise = nn.Conv1d(channels, channels, kernel, groups=channels, padding=kernel // 2)
        self.edge_scale = nn.Parameter(torch.zeros(2, channels, kernel))  # towards the left and the right border of a chunk
        self.kernel = kernel
        nn.init.uniform_(self.causal.bias, -0.1, 0.1)

    def forward(self, x: Tensor, chunk: int = -1, cache: Tensor | None = None,
                lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Args:
            x: [B, C, T], zero in padding; with a cache at most one chunk.
            chunk: frames per chunk; -1 = all of x is one. The last chunk may be cut short.
            cache: [B, C, kernel // 2], what came before x; zeros where None.
            lengths: [B], with chunk -1: where each sequence ends; None = at T.

        Returns:
            [B, C, T], and the cache for what comes after x.
        """
        batch, channels, size = x.shape
        left = self.kernel // 2
        if cache is None:
            y = depthwise(x, self.causal.weight, self.causal.bias, left)
            after = F.pad(x[..., max(0, size - left):], (max(0, left - size), 0))
        else:
            padded = torch.cat((cache, x), dim=2)
            y, after = self.causal(padded), padded[..., size:]
        if chunk < 0 and lengths is not None:
            return y + self._within(x) * self._scale_to(lengths, size), after
        chunk = size if chunk < 0 else chunk
        if size <= chunk:
            return y + self._within(x) * self._scale(chunk)[:, :size], after
        count = (size + chunk - 1) // chunk  # not -(-size // chunk): a graph divides towards zero
        chunks = F.pad(x, (0, count * chunk - size)).view(batch, channels, count, chunk).transpose(1, 2)
        within = self._within(chunks.reshape(batch * count, channels, chunk)) * self._scale(chunk)
        within = within.view(batch, count, channels, chunk).transpose(1, 2).reshape(batch, channels, count * chunk)
        return y + within[..., :size], after

    def _within(self, x: Tensor) -> Tensor:
        return depthwise(x, self.chunkwise.weight, self.chunkwise.bias, self.kernel // 2)

    def _scale(self, chunk: int) -> Tensor:
        """[C, chunk]."""
        left, right = self.edge_scale
        if chunk < self.kernel:
            return 1 + left[:, :chunk] + right[:, self.kernel - chunk:]
        return 1 + F.pad(left, (0, chunk - self.kernel)) + F.pad(right, (chunk - self.kernel, 0))

    def _scale_to(self, lengths: Tensor, size: int) -> Tensor:
        """[B, C, size], each sequence one chunk of its own length."""
        left, right = self.edge_scale
        left = F.pad(left, (0, max(0, size - self.kernel)))[:, :size]
        place = torch.arange(size, device=lengths.device) - lengths[:, None] + self.kernel  # in the right border
        return 1 + left + F.pad(right, (1, 0))[:, (place + 1).clamp(0, self.kernel)].transpose(0, 1)
