"""Depthwise convolution over time, for training on CPUs: as matrix products, three times faster than the library's convolution.

Frames are cut into tiles of 16. For each channel a tile's output is its window of the input (tile + kernel - 1 frames) times a banded
matrix that holds the kernel on its diagonals, so that all tiles of a channel are one matrix product; the gradients are two more.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 16
ENOUGH = 400  # frames of a batch from which on it pays


def depthwise_reference(x: Tensor, weight: Tensor, bias: Tensor, left: int) -> Tensor:
    """[B, C, T] → [B, C, T] by the library: `left` zeros before x, as many after it as keep the length.

    Args:
        weight: [C, 1, K]; bias: [C].
    """
    return F.conv1d(F.pad(x, (left, weight.shape[-1] - 1 - left)), weight, bias, groups=x.shape[1])


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, left: int) -> Tensor:
    """The same, the fast way where gradients are needed on a CPU and there is enough to do."""
    if x.device.type != "cpu" or not (torch.is_grad_enabled() and weight.requires_grad) or x.shape[0] * x.shape[2] < ENOUGH:
        kernel = weight.shape[-1]
        if 2 * left == kernel - 1:
            return F.conv1d(x, weight, bias, padding=left, groups=x.shape[1])
        return depthwise_reference(x, weight, bias, left)
    with torch.autocast("cpu", enabled=False):
        return _Depthwise.apply(x, weight.to(x.dtype)[:, 0], bias.to(x.dtype), left)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, left: int) -> Tensor:
        windows = _windows(x, weight.shape[1], left)
        ctx.save_for_backward(windows, weight)
        ctx.left = left
        return _product(windows, weight, x.shape) + bias[:, None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        windows, weight = ctx.saved_tensors
        channels, kernel = weight.shape
        right = kernel - 1 - ctx.left
        around = _windows(grad, kernel, right)
        grad_x = _product(around, weight.flip(1), grad.shape)
        products = torch.bmm(around[:, :, right:right + TILE].transpose(1, 2), windows)  # [C, TILE, TILE + K - 1]
        return grad_x, _diagonals(products, kernel).sum(1), grad.sum((0, 2)), None


def _windows(x: Tensor, kernel: int, left: int) -> Tensor:
    """[B, C, T] → [C, B · tiles, TILE + K - 1], what each tile sees."""
    batch, channels, size = x.shape
    tiles = (size + TILE - 1) // TILE
    x = F.pad(x, (left, tiles * TILE - size + kernel - 1 - left))
    view = x.as_strided((channels, batch, tiles, TILE + kernel - 1), (x.stride(1), x.stride(0), TILE * x.stride(2), x.stride(2)))
    return view.reshape(channels, batch * tiles, -1)


def _product(windows: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """[C, B · tiles, W] and kernels [C, K] → [B, C, T]."""
    batch, channels, size = shape
    band = weight.new_zeros(channels, TILE, windows.shape[-1])
    _diagonals(band, weight.shape[1]).copy_(weight[:, None].expand(-1, TILE, -1))
    return torch.bmm(windows, band.transpose(1, 2)).view(channels, batch, -1)[..., :size].transpose(0, 1)


def _diagonals(x: Tensor, kernel: int) -> Tensor:
    """[C, TILE, TILE + K - 1] → [C, TILE, K], a view: row i from column i on."""
    width = x.shape[-1]
    return x.as_strided((x.shape[0], TILE, kernel), (TILE * width, width + 1, 1))
