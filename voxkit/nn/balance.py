"""Balancer and Whiten (Yao et al. 2023, arXiv 2310.11230, section 2.5 and appendix): layers that pass their input through and, in
training only, bend its gradient so that activations stay in a useful range and spread over all directions.

The gradients of both constraints are written out instead of left to autograd, so that they cost a few passes over the data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from voxkit.nn.scheduled import FloatLike, Scheduled, ScheduledFloat, chance


def balancer_gradient(x: Tensor, mean_range: tuple[float, float], rms_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Gradient of the Balancer's penalty, whose rms per channel is made 1: it is offset + slope · x.

    The penalty of a channel is the distance of mean / stddev from its range plus |log| of the rms's distance from its own.

    Args:
        x: [N, C] float32.

    Returns:
        offset, slope: [C]; zero where a channel is in range.
    """
    count = x.shape[0]
    mean = x.mean(0)
    power = torch.linalg.vector_norm(x, dim=0).square_().div_(count)
    std = (power - mean.square()).clamp_(min=1e-20).sqrt_()
    rms = power.clamp(min=1e-20).sqrt_()
    ratio = mean / std
    side = torch.sign(ratio - ratio.clamp(*mean_range))
    # d ratio / d x = (1 - ratio (x - mean) / std) / (N std);  N cancels in the normalization below
    offset = side / std * (1 + ratio.square())
    slope = -side * ratio / std.square()
    slope = slope - torch.sign(rms.clamp(*rms_range) - rms) / rms.square()
    norm = (offset.square() + 2 * offset * slope * mean + slope.square() * power).clamp_(min=0).sqrt_()
    scale = torch.where(norm > 0, norm.clamp(min=1e-20).reciprocal(), 0.0)
    return offset * scale, slope * scale


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limits: tuple, scale: float, channels: tuple[int, int] | None, dim: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.options = (limits, scale, channels, dim)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        (mean_range, rms_range), scale, channels, dim = ctx.options
        out = grad
        if channels is not None:
            start, end = channels
            x = x.narrow(dim, start, end - start)
            out = grad.clone()
            grad = out.narrow(dim, start, end - start)
        last = x.movedim(dim, -1)
        offset, slope = balancer_gradient(last.reshape(-1, last.shape[-1]).float(), mean_range, rms_range)
        if dim != -1:
            shape = [1] * x.ndim
            shape[dim] = -1
            offset, slope = offset.view(shape), slope.view(shape)
        # the change is relative to each element of the gradient, taken as an estimate of its size
        change = torch.addcmul(offset * scale, x, slope * scale).mul_(grad.abs())
        if channels is None:
            return grad + change.to(grad.dtype), None, None, None, None
        grad.add_(change)
        return out, None, None, None, None


def _positive_to_mean(share: float) -> float:
    """The mean / stddev of a normal variable that is positive in this share of cases (crude towards 0 and 1)."""
    x, tiny = 2 * share - 1, 1e-10
    return 0.8139535143 * (math.log(1 + x + tiny) - math.log(1 - x + tiny)) / 2.0


class Balancer(Scheduled):
    """Draws each channel towards being positive in a share of frames within [min_positive, max_positive], and its mean absolute
    value (as if normally distributed) towards [min_abs, max_abs].

    Args:
        dim: which dimension holds the channels, negative.
        scale: size of the change, relative to the gradient.
        prob: how often it acts; the published schedule where None.
        channels: only these, [start, end); all where None.
    """

    def __init__(self, *, dim: int = -1, min_positive: FloatLike = 0.05, max_positive: FloatLike = 0.95, min_abs: FloatLike = 0.2,
                 max_abs: FloatLike = 100.0, scale: float = 0.04, prob: FloatLike | None = None,
                 channels: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.dim, self.scale, self.channels = dim, scale, channels
        self.min_positive, self.max_positive, self.min_abs, self.max_abs = min_positive, max_positive, min_abs, max_abs
        self.prob = ScheduledFloat((0, 0.5), (8000, 0.125), default=0.4) if prob is None else prob

    def forward(self, x: Tensor) -> Tensor:
        """x, unchanged."""
        if not (self.training and torch.is_grad_enabled() and x.requires_grad and chance(self.at(self.prob))):
            return x
        mean_range = (_positive_to_mean(self.at(self.min_positive)), _positive_to_mean(self.at(self.max_positive)))
        rms = math.sqrt(math.pi / 2)
        rms_range = (rms * self.at(self.min_abs), rms * self.at(self.max_abs))
        return _Balance.apply(x, (mean_range, rms_range), self.scale, self.channels, self.dim)


def whitening_metric(x: Tensor, groups: int) -> Tensor:
    """How far features are from white: 1 where all eigenvalues of the covariances of all groups are equal, more otherwise.

    Args:
        x: [N, C]; the channels fall into `groups` groups with a covariance each.
    """
    cov = _covariance(_grouped(x, groups))
    mean_eig, mean_square = cov.diagonal(dim1=1, dim2=2).mean(), cov.square().sum() / x.shape[-1]
    return mean_square / (mean_eig.square() + 1e-20)


def _grouped(x: Tensor, groups: int) -> Tensor:
    """[N, C] → [G, N, C / G], centered."""
    x = x - x.mean(0)
    return x.view(x.shape[0], groups, -1).transpose(0, 1)


def _covariance(x: Tensor) -> Tensor:
    return x.transpose(1, 2) @ x


def whitening_gradient(x: Tensor, groups: int, limit: float) -> Tensor | None:
    """Gradient [N, C] of the whitening metric (up to a positive factor) where it is above its limit, else None."""
    centered = _grouped(x, groups)
    cov = _covariance(centered)
    mean_eig, mean_square = cov.diagonal(dim1=1, dim2=2).mean(), cov.square().sum() / x.shape[-1]
    if mean_square / (mean_eig.square() + 1e-20) < limit:
        return None
    cov.diagonal(dim1=1, dim2=2).sub_(mean_square / (mean_eig + 1e-20))
    return (centered @ cov).transpose(0, 1).reshape(x.shape)


class _Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Whiten, limit: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.module, ctx.limit = module, limit
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,), module = ctx.saved_tensors, ctx.module
        with torch.autocast(x.device.type, enabled=False):
            extra = whitening_gradient(x.reshape(-1, x.shape[-1]).float(), module.groups, ctx.limit)
        module.prob = module.min_prob if extra is None else module.max_prob
        if extra is not None:
            factor = module.scale * torch.linalg.vector_norm(grad.float()) / (torch.linalg.vector_norm(extra) + 1e-20)
            grad = grad + (extra.view(x.shape) * factor).to(grad.dtype)
        return grad, None, None


class Whiten(Scheduled):
    """Adds a gradient that makes the covariance of the features whiter, where its metric is above a limit.

    Acts in a share of the calls: `min_prob` of them once the features are white enough, `max_prob` until then. Which of the two
    holds now is kept in the state dict, so that a resumed run draws the same random numbers.

    Args:
        groups: of channels, each with its own covariance.
        limit: of the metric, at least 1; or its schedule.
        scale: norm of the added gradient, relative to the gradient's.
    """

    def __init__(self, limit: FloatLike, *, groups: int = 1, min_prob: float = 0.025, max_prob: float = 0.25, scale: float = 0.01) -> None:
        super().__init__()
        self.limit, self.groups, self.scale = limit, groups, scale
        self.min_prob, self.max_prob = min_prob, max_prob
        self.prob = max_prob

    def forward(self, x: Tensor) -> Tensor:
        """[..., C], unchanged."""
        if not (self.training and torch.is_grad_enabled() and x.requires_grad and chance(self.prob)):
            return x
        return _Whiten.apply(x, self, self.at(self.limit))

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "prob"] = torch.tensor(self.prob)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        prob = state_dict.pop(prefix + "prob", None)
        if prob is not None:
            self.prob = self.max_prob if float(prob) > (self.min_prob + self.max_prob) / 2 else self.min_prob
        super()._load_from_state_dict(state_dict, prefix, *args)
