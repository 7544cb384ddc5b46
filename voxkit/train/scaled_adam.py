"""ScaledAdam, Zipformer's optimizer (Yao et al. 2023, arXiv 2310.11230, section 2.6 and appendix A.1).

Adam whose step is proportional to the rms of each parameter tensor, so that all tensors change at the same relative rate, and which
also learns each tensor's scale: as if it were an underlying tensor times exp(scale). Gradients, weighed with the rms of their
parameters, are clipped at a multiple of the median of their recent norms. Learning rates are about a hundred times Adam's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from voxkit.train.closure import evaluate

CPU_BATCH = 1 << 17  # elements that are updated together on a CPU: what fits its caches; on a GPU everything of one shape
_STATE = ("exp_avg_sq", "delta", "param_rms", "max_rms", "scale_exp_avg_sq", "scale_grads")
_EARLY = (10, 20, 40)  # steps after which the clipping threshold is first estimated, generously


class ScaledAdam(Optimizer):
    """Args:
        params: parameters, or groups of them with options of their own (`lr` above all). `weight_decay` of a group has no effect:
            the learned scale takes its place.
        lr: of the schedule's start, 0.03 to 0.05.
        clipping_scale: clip at this multiple of the median norm of all groups together; None = never.
        betas: of the momentum and of the squared gradients' average.
        scalar_lr_scale: rate of the scales, and of parameters with one element, relative to lr.
        param_min_rms, param_max_rms: range of the scales; scalar_max: largest absolute value of parameters with one element.
        size_update_period: steps between two updates of the scales.
        clipping_update_period: steps whose median counts.
    """

    def __init__(self, params: Iterable[Any], lr: float = 3e-2, clipping_scale: float | None = None,
                 betas: tuple[float, float] = (0.9, 0.98), scalar_lr_scale: float = 0.1, eps: float = 1e-8, param_min_rms: float = 1e-5,
                 param_max_rms: float = 3.0, scalar_max: float = 10.0, size_update_period: int = 4,
                 clipping_update_period: int = 100) -> None:
        if lr <= 0 or not 0 <= betas[0] < 1 or not 0 <= betas[1] < 1:
            raise ValueError(f"ScaledAdam needs lr above 0 and betas in [0, 1), not lr {lr} and betas {betas}")
        if size_update_period < 1 or clipping_update_period < 1:
            raise ValueError("ScaledAdam's size_update_period and clipping_update_period are at least 1")
        defaults = {"lr": lr, "clipping_scale": clipping_scale, "betas": betas, "scalar_lr_scale": scalar_lr_scale, "eps": eps,
                    "param_min_rms": param_min_rms, "param_max_rms": param_max_rms, "scalar_max": scalar_max,
                    "size_update_period": size_update_period, "clipping_update_period": clipping_update_period}
        self._batches: list[tuple[int, list[Tensor], dict[str, Tensor]]] | None = None
        super().__init__(params, defaults)
        # of the clipping, kept with the first group so that it is in the state dict
        self.param_groups[0].setdefault("clipping", {"step": 0, "norms": [], "threshold": None, "clipped": 0})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._batches = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        clipping = self.param_groups[0]["clipping"]
        self.param_groups[0]["clipping"] = {**clipping, "norms": list(clipping["norms"])}
        self._batches = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update. A parameter without a gradient counts as one whose gradient is zero."""
        loss = evaluate(closure)
        if self._batches is None:
            self._batches = [batch for index in range(len(self.param_groups)) for batch in self._batch(index)]
        work = []
        for index, params, state in self._batches:
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            if any(g.is_sparse for g in grads):
                raise ValueError("ScaledAdam takes no sparse gradients; make the embedding dense (sparse=False)")
            work.append((self.param_groups[index], params, _joined(params), _joined(grads).float(), state))
        clip = self._clip(work)
        step = self.param_groups[0]["clipping"]["step"]
        for group, params, p, grad, state in work:
            if clip != 1.0:
                grad = grad * clip if clip > 0 else torch.zeros_like(grad)
            delta = _update(group, p, grad, state, step)
            torch._foreach_add_(params, [d.view_as(q) for d, q in zip(delta.unbind(0), params)])
            if p[0].numel() == 1:
                for q in params:
                    q.clamp_(-group["scalar_max"], group["scalar_max"])
        self.param_groups[0]["clipping"]["step"] = step + 1
        return loss

    def _batch(self, index: int) -> list[tuple[int, list[Tensor], dict[str, Tensor]]]:
        """A group's parameters in batches of one shape and device, their states joined; each parameter's own state is a view of that."""
        by_shape: dict[Any, list[Tensor]] = {}
        for p in self.param_groups[index]["params"]:
            by_shape.setdefault((p.dtype, p.device, *p.shape), []).append(p)
        batches = []
        for params in by_shape.values():
            size = len(params) if params[0].is_cuda else max(1, CPU_BATCH // max(1, params[0].numel()))
            for start in range(0, len(params), size):
                part = params[start:start + size]
                for p in part:
                    self._initialize(p, self.param_groups[index])
                names = [name for name in _STATE if name in self.state[part[0]]]
                joined = {name: torch.cat([self.state[p][name] for p in part]) for name in names}
                for i, p in enumerate(part):
                    for name in names:
                        self.state[p][name] = joined[name][i:i + 1]
                batches.append((index, part, joined))
        return batches

    def _initialize(self, p: Tensor, group: dict[str, Any]) -> None:
        """State of a parameter that has none: each [1, ...], the 1 being where parameters are joined.

        A tensor that starts above `param_max_rms` keeps its start as its limit: pulling the LayerNorm gains of a pretrained Whisper (some
        above 10) down to the limit undoes what it knows within ten steps.
        """
        if self.state[p]:
            return
        period = group["size_update_period"]
        zeros = torch.zeros_like(p, dtype=torch.float32)[None]
        self.state[p].update(exp_avg_sq=zeros, delta=zeros.clone())
        if p.numel() > 1:
            ones = torch.ones(1, *[1] * p.ndim, device=p.device)
            rms = ones * _rms(p.detach()[None].float())
            self.state[p].update(param_rms=rms, max_rms=rms.clamp(min=group["param_max_rms"]), scale_exp_avg_sq=ones * 0,
                                 scale_grads=(ones * 0)[:, None].repeat(1, period, *[1] * p.ndim))

    def _clip(self, work: list[tuple]) -> float:
        """What the gradients are multiplied by, at most 1; 0 where they are not finite."""
        memory = self.param_groups[0]["clipping"]
        scale, period, step = self.param_groups[0]["clipping_scale"], self.param_groups[0]["clipping_update_period"], memory["step"]
        if scale is None or step == 0:
            return 1.0
        squares = []
        for group, _, _, grad, state in work:
            weight = state["param_rms"] if "param_rms" in state else group["scalar_lr_scale"]
            squares.append(((_norm(grad) * weight) ** 2).sum())
        norm = torch.stack([s.to(squares[0].device) for s in squares]).sum().sqrt().item()
        if norm - norm != 0:
            memory["clipped"] += 1
            return 0.0
        memory["norms"] = [*memory["norms"], norm][-period:]
        if step % period == 0 or (step in _EARLY and step < period):
            norms = sorted(memory["norms"])
            memory["threshold"] = scale * norms[len(norms) // 2] * (1.0 if step % period == 0 else 2.0)
            memory["clipped"] = 0
        if memory["threshold"] is None or norm <= memory["threshold"]:
            return 1.0
        memory["clipped"] += 1
        return memory["threshold"] / norm


def _update(group: dict[str, Any], p: Tensor, grad: Tensor, state: dict[str, Tensor], step: int) -> Tensor:
    """The change of parameters p [N, ...]; states are updated in place."""
    beta1, beta2 = group["betas"]
    lr, scalar_lr, eps = group["lr"], group["lr"] * group["scalar_lr_scale"], group["eps"]
    square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    correction = 1 - beta2 ** (step + 1)
    denominator = square.sqrt()
    if correction < 0.99:
        denominator.div_(correction ** 0.5)
    delta = torch.div(grad, denominator.add_(eps))
    if p[0].numel() == 1:
        delta.mul_(-scalar_lr)
        return state["delta"].mul_(beta1).add_(delta, alpha=1 - beta1)
    period, rms = group["size_update_period"], state["param_rms"]
    dims = list(range(1, p.ndim))
    state["scale_grads"][:, step % period] = (p * grad).sum(dim=dims, keepdim=True)
    last = step % period == period - 1
    if last:
        rms.copy_(_rms(p.float()))
    delta.mul_(rms.clamp(min=group["param_min_rms"]).mul_(-lr))
    if last and step > 0:
        beta = beta2 ** period
        square = state["scale_exp_avg_sq"].mul_(beta).add_(state["scale_grads"].square().mean(dim=1), alpha=1 - beta)
        correction = 1 - beta ** ((step + 1) // period)
        change = -scalar_lr * correction ** 0.5 * state["scale_grads"].sum(dim=1) / (square.sqrt() + eps)
        change.masked_fill_(rms < group["param_min_rms"], 0.0)
        change = torch.minimum(change.clamp_(-0.1, 0.1), (state["max_rms"] - rms) / rms)
        delta.addcmul_(p, change)
    return state["delta"].mul_(beta1).add_(delta, alpha=1 - beta1)


def _joined(tensors: list[Tensor]) -> Tensor:
    """[N, ...]; a view where there is one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _norm(x: Tensor) -> Tensor:
    """[N, ...] → [N, 1, ...]."""
    return torch.linalg.vector_norm(x, dim=list(range(1, x.ndim)), keepdim=True) if x.ndim > 1 else x.abs()


def _rms(x: Tensor) -> Tensor:
    return _norm(x) / x[0].numel() ** 0.5
