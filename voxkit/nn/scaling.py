"""Small layers that keep activations in a good range (Yao et al. 2023, arXiv 2310.11230): BiasNorm, limits on parameters and scores,
gradient scaling, dropout with a shared mask. Balancer and Whiten are in balance.py, the activations in swoosh.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxkit.nn.scheduled import FloatLike, Scheduled, chance


class _Limit(torch.autograd.Function):
    """Identity whose gradient never pushes a value further out of its range (it pulls it back instead)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = (low, high)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        low, high = ctx.range
        wrong = ((grad > 0) & (x < low)) | ((grad < 0) & (x > high))
        return torch.where(wrong, -grad, grad), None, None


def limit_parameter(x: Tensor, low: float, high: float, probability: float = 0.6) -> Tensor:
    """A parameter, unchanged; in `probability` of the calls its gradient draws it back into [low, high]. For use in training."""
    return _Limit.apply(x, low, high) if x.requires_grad and chance(probability) else x


class _BiasNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        centered = x.float() - bias
        scale = torch.linalg.vector_norm(centered, dim=-1, keepdim=True).div_(x.shape[-1] ** 0.5).reciprocal_().mul_(log_scale.exp())
        ctx.save_for_backward(x, bias, log_scale, scale)
        return (x * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bias, log_scale, scale = ctx.saved_tensors
        grad, x32 = grad.float(), x.float()
        dot = (grad * x32).sum(-1, keepdim=True)  # of the gradient with the scale
        # d scale / d x = -scale^3 (x - bias) / (D exp(2 log_scale))
        factor = dot * scale.pow(3).div_(-x.shape[-1] * torch.exp(2 * log_scale))
        grad_bias = -torch.mm(factor.reshape(1, -1), (x32 - bias).reshape(-1, x.shape[-1])).view(-1)
        grad_x = torch.addcmul(grad * scale, x32 - bias, factor)
        return grad_x.to(x.dtype), grad_bias, (dot * scale).sum()


class BiasNorm(nn.Module):
    """x · exp(log_scale) / rms(x - bias): a LayerNorm that keeps lengths apart, with a learned bias and one learned scale.

    Args:
        dim: width of the last dimension.
    """

    def __init__(self, dim: int, log_scale: float = 1.0, log_scale_min: float = -1.5, log_scale_max: float = 1.5) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(log_scale))
        self.bias = nn.Parameter(torch.randn(dim) * 1e-4)
        self.log_scale_min, self.log_scale_max = log_scale_min, log_scale_max

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        if not (torch.is_grad_enabled() and (x.requires_grad or self.bias.requires_grad)):
            return x * ((x - self.bias).square().mean(-1, keepdim=True) ** -0.5 * self.log_scale.exp())
        log_scale = limit_parameter(self.log_scale, self.log_scale_min, self.log_scale_max) if self.training else self.log_scale
        return _BiasNorm.apply(x, self.bias, log_scale)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * ctx.scale, None


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """x, whose gradient is multiplied by `scale`."""
    return _ScaleGradient.apply(x, scale) if torch.is_grad_enabled() and x.requires_grad else x


class SharedDropout(Scheduled):
    """Dropout of channels: [B, T, D], one mask for all times of a sequence.

    Args:
        rate: or its schedule.
    """

    def __init__(self, rate: FloatLike) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        rate = self.at(self.rate) if self.training else 0.0
        if rate <= 0:
            return x
        return x * (torch.rand(x.shape[0], 1, x.shape[-1], device=x.device) > rate).to(x.dtype).div_(1.0 - rate)


def convert_width(x: Tensor, dim: int) -> Tensor:
    """[..., D] → [..., dim]: channels beyond are dropped, missing ones are zeros."""
    if x.shape[-1] >= dim:
        return x[..., :dim]
    return torch.cat((x, x.new_zeros(*x.shape[:-1], dim - x.shape[-1])), dim=-1)
