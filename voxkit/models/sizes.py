"""Parameters of a model, part by part, and their memory."""

from __future__ import annotations

from torch import nn


def count_parameters(model: nn.Module, names: bool = False) -> list[tuple[str, int, int]]:
    """(part, parameters, trained ones) for every part two levels down where the first is only a holder; the last row is the total.

    Args:
        names: one row per parameter instead.
    """
    if names:
        rows = [(name, p.numel(), p.numel() * p.requires_grad) for name, p in model.named_parameters()]
    else:
        rows = []
        for name, part in model.named_children():
            inner = [(f"{name}.{child}", m) for child, m in part.named_children()] if name == "front_end" else [(name, part)]
            rows += [(label, *_count(m)) for label, m in inner if _count(m)[0]]
    total = _count(model)
    return [*rows, ("total", *total)]


def memory(model: nn.Module) -> tuple[int, int]:
    """Bytes of the weights as float32, and of what training adds to those that learn: gradients and two averages, all float32."""
    total, learning = _count(model)
    return 4 * total, 12 * learning


def _count(module: nn.Module) -> tuple[int, int]:
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
