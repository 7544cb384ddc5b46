"""Numbers that change as training goes on: dropout rates, limits, probabilities (Yao et al. 2023, arXiv 2310.11230, appendix).

A module that has such numbers derives from `Scheduled` and reads them with `self.at(...)`; the trainer says which step it is
with `set_batch_count(model, step)`.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Union

import torch
from torch import nn


class ScheduledFloat:
    """A piecewise linear function of the step.

    Args:
        points: (step, value) pairs in order of step; before the first and after the last the value stays what it is there.
        default: the value while no step is known; the last point's where None.
    """

    def __init__(self, *points: tuple[float, float], default: float | None = None) -> None:
        if not points or any(a[0] >= b[0] for a, b in zip(points, points[1:])):
            raise ValueError(f"a schedule is (step, value) pairs with rising steps, not {points}")
        self.steps = [float(step) for step, _ in points]
        self.values = [float(value) for _, value in points]
        self.default = self.values[-1] if default is None else float(default)

    def __call__(self, step: float | None) -> float:
        """The value at a step; the default where it is None."""
        if step is None:
            return self.default
        after = bisect_right(self.steps, step)
        if after == 0:
            return self.values[0]
        if after == len(self.steps):
            return self.values[-1]
        (x0, x1), (y0, y1) = self.steps[after - 1:after + 1], self.values[after - 1:after + 1]
        return y0 + (y1 - y0) * (step - x0) / (x1 - x0)

    def __repr__(self) -> str:
        return f"ScheduledFloat({', '.join(map(str, zip(self.steps, self.values)))})"


FloatLike = Union[float, ScheduledFloat]


class Scheduled(nn.Module):
    """A module with scheduled numbers.

    Attributes:
        batch_count: steps so far, as `set_batch_count` last said; None = unknown.
        schedule_speed: how many steps of the schedules one step counts as (above 1 on small corpora, with few steps in all).
    """

    batch_count: float | None = None
    schedule_speed: float = 1.0

    def at(self, value: FloatLike) -> float:
        """A number, or a schedule's value now."""
        return value(self.batch_count) if isinstance(value, ScheduledFloat) else value


def set_batch_count(model: nn.Module, count: float) -> None:
    """Tell every scheduled module of a model how many optimizer steps there have been."""
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.batch_count = count * module.schedule_speed


def set_schedule_speed(model: nn.Module, speed: float) -> None:
    """Let every step of the trainer count as `speed` steps of the schedules."""
    if speed <= 0:
        raise ValueError(f"schedule_speed: {speed} is not above 0")
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.schedule_speed = speed


def chance(probability: float) -> bool:
    """True with this probability. From torch's generator, so that checkpointed layers decide alike when they are recomputed."""
    return probability > 0 and (probability >= 1 or torch.rand(()).item() < probability)
