"""Learning rates over time: a linear warm-up, then cosine, linear, constant, or Eden (Yao et al. 2023, arXiv 2310.11230, section 2.7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from voxkit.train.config import ScheduleConfig

EDEN_WARMUP_START = 0.5


def warmup(step: int, config: ScheduleConfig) -> float:
    """Share of the learning rate while it warms up: from 1 / warmup_steps (Eden: from a half) to 1."""
    if step >= config.warmup_steps:
        return 1.0
    if config.name == "eden":
        return EDEN_WARMUP_START + (1 - EDEN_WARMUP_START) * step / config.warmup_steps
    return (step + 1) / config.warmup_steps


def _progress(step: int, config: ScheduleConfig) -> float:
    """0 at the end of the warm-up, 1 at total_steps and after."""
    if config.total_steps is None:
        raise ValueError(f"train.schedule.total_steps: the {config.name} schedule has to know where it ends")
    return min(1.0, max(0.0, (step - config.warmup_steps) / max(1, config.total_steps - config.warmup_steps)))


def cosine(step: int, epoch: float, config: ScheduleConfig) -> float:
    """Half a cosine from 1 to min_lr_ratio."""
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * _progress(step, config)))


def linear(step: int, epoch: float, config: ScheduleConfig) -> float:
    """A line from 1 to min_lr_ratio."""
    return 1 - (1 - config.min_lr_ratio) * _progress(step, config)


def constant(step: int, epoch: float, config: ScheduleConfig) -> float:
    """1."""
    return 1.0


def eden(step: int, epoch: float, config: ScheduleConfig) -> float:
    """((step² + a²) / a²)^-1/4 · ((epoch² + b²) / b²)^-1/4 with a = lr_batches, b = lr_epochs."""
    return ((1 + (step / config.lr_batches) ** 2) * (1 + (epoch / config.lr_epochs) ** 2)) ** -0.25


SHAPES: dict[str, Callable[[int, float, Any], float]] = {"cosine": cosine, "linear": linear, "constant": constant, "eden": eden}


class Schedule:
    """Sets the learning rate of every group of an optimizer, as a multiple of its own.

    Args:
        optimizer: its groups' `lr` now are the rates that the schedule scales.
        config: see ScheduleConfig.

    Raises:
        ValueError: an unknown name, or cosine or linear without total_steps.
    """

    def __init__(self, optimizer: Optimizer, config: ScheduleConfig) -> None:
        if config.name not in SHAPES:
            raise ValueError(f"train.schedule.name: {config.name!r} is none of {', '.join(SHAPES)}")
        self.optimizer, self.config = optimizer, config
        self.steps, self.epoch, self.factor = 0, 0.0, 1.0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._apply()

    def share(self) -> float:
        """What the rates are multiplied by now."""
        return self.factor * warmup(self.steps, self.config) * SHAPES[self.config.name](self.steps, self.epoch, self.config)

    def step(self) -> None:
        """After each optimizer step."""
        self.steps += 1
        self._apply()

    def step_epoch(self, epoch: float) -> None:
        """At the start of each epoch, counted from 0."""
        self.epoch = epoch
        self._apply()

    def scale(self, factor: float) -> None:
        """Multiply all rates from now on (to halve them after a divergence)."""
        self.factor *= factor
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "epoch": self.epoch, "factor": self.factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.epoch, self.factor = state["steps"], state["epoch"], state["factor"]
        self._apply()

    def _apply(self) -> None:
        share = self.share()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share


def build_schedule(optimizer: Optimizer, config: ScheduleConfig) -> Schedule:
    """The schedule that a configuration names, over an optimizer."""
    return Schedule(optimizer, config)
