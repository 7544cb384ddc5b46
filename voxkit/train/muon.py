"""Muon: steps of orthogonal direction for matrices, AdamW for all else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the nearest
semi-orthogonal one, so that no direction of the matrix is left behind. Its steps are scaled to the rms that AdamW's have (Liu et al. 2025,
"Muon is scalable for LLM training", arXiv 2502.16982), so that rates and weight decay mean what they mean there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from voxkit.ops.newton_schulz import newton_schulz

ADAMW_RMS = 0.2  # of AdamW's steps, in units of the rate


class Muon(Optimizer):
    """Args:
        params: groups; one with `matrices: True` holds weights that are matrices [M, N] or convolutions [M, ...] and is given Muon's
            steps, the others AdamW's.
        lr: rate, as AdamW's.
        momentum: of the matrices, Nesterov's.
        steps: Newton-Schulz iterations.
        betas, eps: of AdamW.
        weight_decay: decoupled, of both.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.95, steps: int = 5,
                 betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8, weight_decay: float = 0.01) -> None:
        if lr <= 0 or not 0 <= momentum < 1 or steps < 1:
            raise ValueError("Muon needs lr above 0, momentum in [0, 1) and steps of at least 1, "
                             f"not lr {lr}, momentum {momentum}, steps {steps}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "matrices": False})
        for group in self.param_groups:
            vectors = [p for p in group["params"] if p.ndim < 2]
            if group["matrices"] and vectors:
                raise ValueError(f"Muon: a parameter of shape {list(vectors[0].shape)} is no matrix; put it into a group of its own")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            if group["matrices"]:
                self._step_matrices(group, params)
            else:
                self._step_others(group, params)
        return loss

    def _step_matrices(self, group: dict[str, Any], params: list[Tensor]) -> None:
        by_shape: dict[Any, list[Tensor]] = {}
        for p in params:
            by_shape.setdefault((p.device, p.dtype, p.shape[0], p[0].numel()), []).append(p)
        for (device, _, *shape), some in by_shape.items():
            for p in some:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta, grads = [self.state[p]["momentum"] for p in some], [p.grad for p in some]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            directions = torch.stack([g.lerp(m, group["momentum"]).flatten(1) for g, m in zip(grads, momenta)])
            directions = directions.to(torch.bfloat16 if device.type == "cuda" else torch.float32)
            updates = newton_schulz(directions, group["steps"]).mul_(-group["lr"] * ADAMW_RMS * max(shape) ** 0.5)
            torch._foreach_add_(some, [u.view_as(p).to(p.dtype) for u, p in zip(updates.unbind(), some)])

    def _step_others(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            self.state[p]["step"] += 1
        beta1, beta2 = group["betas"]
        grads, states = [p.grad for p in params], [self.state[p] for p in params]
        averages, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        torch._foreach_lerp_(averages, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, [(1 - beta2 ** s["step"]) ** 0.5 for s in states])
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(params, averages, denominators, [-group["lr"] / (1 - beta1 ** s["step"]) for s in states])


def matrix_names(model: nn.Module) -> set[str]:
    """Names of the weights that Muon's steps are for: of linear layers and dense convolutions. Embeddings are rows that are looked up one
    by one, and a depthwise convolution is a filter for each channel: neither acts on a vector as a matrix does."""
    others = {id(module.weight) for module in model.modules()
              if isinstance(module, nn.Embedding) or isinstance(module, (nn.Conv1d, nn.Conv2d)) and module.groups > 1}
    return {name for name, p in model.named_parameters() if p.ndim >= 2 and name.endswith("weight") and id(p) not in others}
