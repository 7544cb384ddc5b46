"""Muon: steps of orthogonal direction for matrices, AdamW for all else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the nearest
semi-orthogonal one, so that no direction of the matrix is left behind. Its steps are scaled to the rms that AdamW's have (Liu et al. 2025,
"Muon is scalable for LLM training", arXiv 2502.16982), so that rates and weight decay mean what they mean there. It orthogonalizes in
bfloat16 on a GPU, as published, and in float32 elsewhere, because CPUs may emulate bfloat16: a run that moves to the other kind differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from voxkit.ops.newton_schulz import newton_schulz
from voxkit.train.closure import evaluate

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
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update; parameters without a gradient stay as they are."""
        loss = evaluate(closure)
        for group in self.param_groups:
            pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
            if pairs:
                torch._foreach_mul_([p for p, _ in pairs], 1 - group["lr"] * group["weight_decay"])
                (self._step_matrices if group["matrices"] else self._step_others)(group, pairs)
        return loss

    def _step_matrices(self, group: dict[str, Any], pairs: list[tuple[Tensor, Tensor]]) -> None:
        by_shape: dict[Any, list[tuple[Tensor, Tensor]]] = {}
        for p, grad in pairs:
            by_shape.setdefault((p.device, p.dtype, p.shape[0], p[0].numel()), []).append((p, grad))
        for (device, _, *shape), some in by_shape.items():
            for p, _ in some:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            params, grads = [p for p, _ in some], [grad for _, grad in some]
            momenta = [self.state[p]["momentum"] for p in params]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            directions = torch.stack([g.lerp(m, group["momentum"]).flatten(1) for g, m in zip(grads, momenta)])
            directions = directions.to(torch.bfloat16 if device.type == "cuda" else torch.float32)
            updates = newton_schulz(directions, group["steps"]).mul_(-group["lr"] * ADAMW_RMS * max(shape) ** 0.5)
            torch._foreach_add_(params, [u.view_as(p).to(p.dtype) for u, p in zip(updates.unbind(), params)])

    def _step_others(self, group: dict[str, Any], pairs: list[tuple[Tensor, Tensor]]) -> None:
        params, grads = [p for p, _ in pairs], [grad for _, grad in pairs]
        states = [self.state[p] for p in params]
        for p, state in zip(params, states):
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            state["step"] += 1
        beta1, beta2 = group["betas"]
        averages, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        torch._foreach_lerp_(averages, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, [(1 - beta2 ** s["step"]) ** 0.5 for s in states])
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(params, averages, denominators, [-group["lr"] / (1 - beta1 ** s["step"]) for s in states])


def matrix_names(model: nn.Module) -> set[str]:
    """Names of the parameters that Muon's steps are for: every `weight` of two dimensions or more, but for embeddings, whose rows are
    looked up one by one, and grouped convolutions, which filter each channel alone. Jordan et al. leave the output layer to AdamW too; here
    it goes with the matrices, unless it is tied to an embedding."""
    others = {id(module.weight) for module in model.modules()
              if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or isinstance(module, _ConvNd) and module.groups > 1}
    return {name for name, p in model.named_parameters() if p.ndim >= 2 and name.split(".")[-1] == "weight" and id(p) not in others}
