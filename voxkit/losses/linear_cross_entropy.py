"""Cross-entropy over a vocabulary, straight from states and the head's weights, a chunk of rows at a time.

The logits of a language model's vocabulary are the largest tensor of a training step by far (20 texts of 50 tokens over 150,000 entries:
600 MB, and as much for the gradient). Here a chunk's logits exist once: their gradient is formed with them, in the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_NUMBERS = 2 ** 24  # logits of a chunk: 64 MB


def linear_cross_entropy(states: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, softcap: float = 0.0,
                         chunk: int | None = None) -> Tensor:
    """Negative log-probability of each row's target.

    Args:
        states: [N, D]; weight: [C, D]; bias: [C]; of any float type, the sums are in float32.
        targets: [N] in 0 ... C - 1.
        softcap: logits are bent to ±softcap by a tanh; 0 = they are not.
        chunk: rows at a time; None = as 64 MB hold.

    Returns:
        [N] float32. Gradients go to states, weight and bias.
    """
    if states.dim() != 2 or weight.dim() != 2 or states.shape[1] != weight.shape[1] or targets.shape != states.shape[:1]:
        raise ValueError(f"states {tuple(states.shape)}, weight {tuple(weight.shape)} and targets {tuple(targets.shape)}: [N, D], [C, D] "
                         "and [N] are needed")
    return _LinearCrossEntropy.apply(states, weight, bias, targets, softcap, chunk or max(1, _NUMBERS // len(weight)))


def linear_cross_entropy_reference(states: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None,
                                   softcap: float = 0.0) -> Tensor:
    """The same, with all logits at once."""
    logits = F.linear(states, weight, bias).float()
    logits = softcap * (logits / softcap).tanh() if softcap else logits
    return F.cross_entropy(logits, targets, reduction="none")


class _LinearCrossEntropy(torch.autograd.Function):
    """A row's loss depends on its own state alone, so that the gradient of the states waits as [N, D] for what comes from above. Those of
    weight and bias are sums over rows weighed by it, and are formed in the backward pass, where they are wanted at all."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, softcap: float, chunk: int) -> Tensor:
        losses, grads = [], []
        needs_states = ctx.needs_input_grad[0]
        for low in range(0, len(states), chunk):
            rows = slice(low, low + chunk)
            loss, slope = _chunk(states[rows], weight, bias, targets[rows], softcap, needs_states)
            losses.append(loss)
            if needs_states:
                grads.append(slope.to(weight.dtype) @ weight)
        ctx.softcap, ctx.chunk = softcap, chunk
        ctx.save_for_backward(states, weight, bias, targets, torch.cat(grads) if grads else None)
        return torch.cat(losses) if losses else states.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, targets, grads = ctx.saved_tensors
        outer = above[0]
        to_states = (grads.float() * outer[:, None]).to(states.dtype) if grads is not None else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
        if to_weight is not None or to_bias is not None:
            for low in range(0, len(states), ctx.chunk):
                rows = slice(low, low + ctx.chunk)
                slope = _chunk(states[rows], weight, bias, targets[rows], ctx.softcap, True)[1] * outer[rows, None]
                if to_weight is not None:
                    to_weight += slope.T @ states[rows].float()
                if to_bias is not None:
                    to_bias += slope.sum(0)
        return (to_states, None if to_weight is None else to_weight.to(weight.dtype), None if to_bias is None else to_bias.to(bias.dtype),
                None, None, None)


def _chunk(states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, softcap: float,
           with_slope: bool) -> tuple[Tensor, Tensor]:
    """→ losses [n], and their slopes over the plain logits [n, C] (empty where not asked for)."""
    logits = F.linear(states.to(weight.dtype), weight, bias).float()
    bent = (logits / softcap).tanh() if softcap else logits
    scores = softcap * bent if softcap else logits
    normal = scores.logsumexp(-1)
    losses = normal - scores.gather(1, targets[:, None])[:, 0]
    if not with_slope:
        return losses, logits.new_empty(0)
    slope = (scores - normal[:, None]).exp()
    slope[torch.arange(len(targets), device=targets.device), targets] -= 1
    return losses, slope * (1 - bent.square()) if softcap else slope
