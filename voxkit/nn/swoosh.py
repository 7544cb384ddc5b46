"""SwooshL and SwooshR (Yao et al. 2023, arXiv 2310.11230, section 2.4), and SwooshLinear: activation, dropout and linear layer in one.

    SwooshL(x) = log(1 + exp(x - 4)) - 0.08 x - 0.035
    SwooshR(x) = log(1 + exp(x - 1)) - 0.08 x - 0.313261687

Both have the derivative sigmoid(x - shift) - 0.08, so the backward pass needs nothing but x.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.nn.scheduled import FloatLike, Scheduled

SLOPE = 0.08
SWOOSH = {"L": (4.0, 0.035), "R": (1.0, 0.313261687)}  # shift of x, what is taken off


def swoosh_reference(x: Tensor, kind: str) -> Tensor:
    """The formula as published; any shape."""
    shift, offset = SWOOSH[kind]
    return torch.logaddexp(torch.zeros_like(x), x - shift) - SLOPE * x - offset


def _value(x: Tensor, kind: str) -> Tensor:
    shift, offset = SWOOSH[kind]
    return F.softplus(x - shift).add_(x, alpha=-SLOPE).sub_(offset)


def _slope(x: Tensor, kind: str) -> Tensor:
    return (x - SWOOSH[kind][0]).sigmoid_().sub_(SLOPE)


class _Swoosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kind = kind
        return _value(x, kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return _slope(x, ctx.kind).mul_(grad), None


def swoosh(x: Tensor, kind: str) -> Tensor:
    """SwooshL or SwooshR of x, any shape; keeps only x for the backward pass.

    Args:
        kind: "L" or "R".
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _Swoosh.apply(x, kind)
    if torch.compiler.is_exporting():
        return swoosh_exported(x, kind)
    shift, offset = SWOOSH[kind]
    return F.softplus(x - shift) - SLOPE * x - offset


def swoosh_exported(x: Tensor, kind: str) -> Tensor:
    """The form for graphs: log(1 + exp(u)) = max(u, 0) - log σ(|u|).

    onnxruntime computes Softplus number by number, and Sigmoid and Log in vectors: this takes a quarter of the time. The shorter
    -log σ(-u) is infinite from u = 16 on, where onnxruntime's σ is 0; here σ lies between a half and one.
    """
    shift, offset = SWOOSH[kind]
    u = x - shift
    return u.relu() - u.abs().sigmoid().log() - SLOPE * x - offset


class _SwooshLinear(torch.autograd.Function):
    """linear(mask * swoosh(x)): keeps x alone on a GPU, where memory is short, and the activation too on a CPU, where time is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, kind: str) -> Tensor:
        y = _value(x, kind)
        if mask is not None:
            y.mul_(mask)
        ctx.kind = kind
        ctx.save_for_backward(x, weight, mask, y if x.device.type == "cpu" else None)
        return F.linear(y, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mask, y = ctx.saved_tensors
        if y is None:
            y = _value(x, ctx.kind)
            if mask is not None:
                y.mul_(mask)
        flat = grad.reshape(-1, grad.shape[-1])
        grad_weight = flat.t() @ y.reshape(-1, y.shape[-1])
        grad_x = (grad @ weight).mul_(_slope(x, ctx.kind))
        if mask is not None:
            grad_x.mul_(mask)
        return grad_x, grad_weight, flat.sum(0), None, None


class SwooshLinear(Scheduled):
    """Swoosh, then dropout whose mask is the same at all times, then a linear layer.

    Args:
        kind: "L" or "R".
        dropout: rate, or its schedule.
        initial_scale: what the start values are multiplied by.
    """

    def __init__(self, inputs: int, outputs: int, kind: str, dropout: FloatLike = 0.0, initial_scale: float = 1.0) -> None:
        super().__init__()
        linear = scaled_init(nn.Linear(inputs, outputs), initial_scale)
        self.weight, self.bias = linear.weight, linear.bias
        self.kind, self.dropout = kind, dropout

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, inputs] → [B, T, outputs]."""
        rate = self.at(self.dropout) if self.training else 0.0
        mask = None
        if rate > 0:
            mask = (torch.rand(x.shape[0], 1, x.shape[-1], device=x.device) > rate).to(x.dtype) / (1.0 - rate)
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            weight, bias = self.weight, self.bias
            if torch.is_autocast_enabled(x.device.type):
                dtype = torch.get_autocast_dtype(x.device.type)
                x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
                mask = mask if mask is None else mask.to(dtype)
                with torch.autocast(x.device.type, enabled=False):
                    return _SwooshLinear.apply(x, weight, bias, mask, self.kind)
            return _SwooshLinear.apply(x, weight, bias, mask, self.kind)
        y = swoosh(x, self.kind)
        return F.linear(y if mask is None else y * mask, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, kind={self.kind!r}, dropout={self.dropout}"


def scaled_init(layer: Any, scale: float) -> Any:
    """Multiply a linear or convolution layer's start weights by `scale`, and start its bias within ± scale / 10. Returns the layer."""
    with torch.no_grad():
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.uniform_(-0.1 * scale, 0.1 * scale)
    return layer
