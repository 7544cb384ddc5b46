"""Stand-in until voxkit.train.schedules exists: linear warm-up, then cosine or constant."""

from __future__ import annotations

import math
from typing import Any

import torch


class Schedule:
    def __init__(self, optimizer: torch.optim.Optimizer, config: Any) -> None:
        if config.name in ("eden", "linear"):
            raise ValueError(f"train.schedule.name {config.name!r} needs voxkit.train.schedules; use cosine or constant")
        self.optimizer, self.config, self.done, self.epoch, self.factor = optimizer, config, 0, 0, 1.0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._apply()

    def _apply(self) -> None:
        c = self.config
        warm = min(1.0, (self.done + 1) / c.warmup_steps) if c.warmup_steps else 1.0
        share = 1.0
        if c.name in ("cosine", "linear") and self.done > c.warmup_steps:
            done = min(1.0, (self.done - c.warmup_steps) / max(1, c.total_steps - c.warmup_steps))
            share = c.min_lr_ratio + (1 - c.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * warm * share * self.factor

    def step(self) -> None:
        self.done += 1
        self._apply()

    def step_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def scale(self, factor: float) -> None:
        self.factor *= factor
        self._apply()

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "epoch": self.epoch, "factor": self.factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self.epoch, self.factor = state["done"], state["epoch"], state["factor"]
        self._apply()


def build_schedule(optimizer: torch.optim.Optimizer, config: Any) -> Schedule:
    return Schedule(optimizer, config)
