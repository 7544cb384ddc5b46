"""A run in progress: the parts that stepping, saving, validating and reporting share."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from voxkit.batch import Batch
from voxkit.precision import resolve
from voxkit.train import distributed
from voxkit.train.averaging import RunningAverage
from voxkit.train.budget import Budget
from voxkit.train.config import TrainConfig
from voxkit.train.interrupt import Interrupt
from voxkit.train.logging import RunLog
from voxkit.train.mirror import Mirror
from voxkit.train.optimizers import build_optimizer
from voxkit.train.remedies import DivergenceWatch
from voxkit.train.run_dir import git_hash
from voxkit.train.schedules import build_schedule
from voxkit.train.state import TrainState


@dataclass
class FitResult:
    """How a run ended.

    Attributes:
        reason: finished, early_stop, budget (the hours are used up) or interrupted (SIGTERM, SIGINT); the last two leave a run
            that the same command continues.
        metrics: of the last validation; best: best value of the configured metric.
        checkpoint: the last one; averaged: the average of the best, where asked for.
    """

    reason: str
    step: int
    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    checkpoint: Path | None = None
    averaged: Path | None = None
    hours: float = 0.0
    cost: float = 0.0
    skipped: int = 0


class RunParts:
    """What a training consists of; with several processes (see `distributed`), one in each.

    Args:
        model: `loss(batch) -> Losses` (voxkit.models.contract); optionally `set_step(step)`, `enable_activation_checkpointing()`.
        loader: iterable of Batch with `set_epoch(n)`, `state_dict()` and `load_state_dict(state)` (plain values and tensors), optionally a
            length.
        config: see TrainConfig.
        run_dir: a run found there is continued.
        validate: the model in eval mode → metrics; a pair (numerator, denominator) is summed over processes, then divided.
        device: where to train.
        extra_meta: goes into every meta.json; "tokenizer" is the fingerprint of the vocabulary, and a run goes on with the same only.
        save_extra: writes config.yaml, tokenizer.model ... into the checkpoint directory that it is given.
        on_step: called after every optimizer step with its number and losses.
        tensorboard: whether to write it.

    Attributes:
        state: where the run stands.
        saved: where it stood when the last checkpoint was written; last_checkpoint: that.
        back_at: step that the last divergence went back to.
        spare: a batch that a process without data repeats, at weight 0.
        mark: (clock, seconds of audio) at the last line of the log.

    Raises:
        ValueError: a configuration that does not fit the model or loader.
    """

    log: RunLog
    budget: Budget
    interrupt: Interrupt
    mirror: Mirror | None

    def __init__(self, model: nn.Module, loader: Any, config: TrainConfig, run_dir: str | Path, *,
                 validate: Callable[[nn.Module], dict[str, Any]] | None = None, device: str | torch.device = "cpu",
                 extra_meta: dict[str, Any] | None = None, save_extra: Callable[[Path], None] | None = None,
                 on_step: Callable[[int, dict[str, float]], None] | None = None, tensorboard: bool = True) -> None:
        self.world = distributed.current(device)
        self.loader, self.config, self.run_dir = loader, config, Path(run_dir)
        self.validate, self.extra_meta, self.save_extra, self.on_step = validate, extra_meta or {}, save_extra, on_step
        self.tensorboard = tensorboard
        self.dtype = resolve(config.precision, self.world.device, "train.precision")
        self.root = self.run_dir / "checkpoints"
        self.model = model.to(self.world.device)
        if config.activation_checkpointing:
            enable = getattr(model, "enable_activation_checkpointing", None)
            if enable is None:
                raise ValueError(f"train.activation_checkpointing: {type(model).__name__} does not offer it; switch it off")
            enable()
        self.optimizer = build_optimizer(model, config.optimizer, config.groups)
        self.total_steps = self._schedule_end()
        self.schedule = build_schedule(self.optimizer, replace(config.schedule, total_steps=self.total_steps))
        self.scaler = torch.amp.GradScaler(self.world.device.type, init_scale=2.0**10, enabled=self.dtype == torch.float16)
        self.average = RunningAverage(model, config.average) if config.average.kind != "none" else None
        self.net = distributed.wrap(model, self.world, config.find_unused_parameters)
        if self.world.rank:  # dropout of its own; rank 0 keeps the caller's seed
            seed = torch.initial_seed() % 2**31 + self.world.rank
            torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        self.state = TrainState()
        self.watch = DivergenceWatch(config.remedies, self.state.watch)
        self.git = git_hash() if self.world.main else ""
        self.saved: tuple | None = None
        self.last_checkpoint: Path | None = None
        self.back_at = -1
        self.spare: Batch | None = None
        self.started_at, self.mark = 0, (time.monotonic(), 0.0)

    @property
    def validates_average(self) -> bool:
        """Whether metrics are measured on the running average."""
        return self.average is not None and self.config.average.validate and self.average.count > 0

    def _schedule_end(self) -> int | None:
        """Steps of the whole run, for schedules that end."""
        config = self.config
        if config.schedule.total_steps:
            return config.schedule.total_steps
        try:
            by_epochs = config.epochs * math.ceil(len(self.loader) / config.accumulate)
        except TypeError:
            by_epochs = None
        total = min(filter(None, (by_epochs, config.max_steps)), default=None)
        if total is None and config.schedule.name in ("cosine", "linear"):
            raise ValueError(f"train.schedule.total_steps: the loader has no length, so the {config.schedule.name} schedule needs it, or "
                             "train.max_steps")
        return total
