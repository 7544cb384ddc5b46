"""The training loop: batches → gradients → optimiser steps, with validation, checkpoints and a way out of every accident.

It sees a module with `.loss(batch)` and an iterable of batches, and knows neither model nor data.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from voxkit.batch import Batch
from voxkit.checkpoint.averaging import average_checkpoints
from voxkit.checkpoint.folder import best_checkpoints, list_checkpoints, remove
from voxkit.checkpoint.format import read_meta, write_checkpoint
from voxkit.checkpoint.weights import load_state, read_weights
from voxkit.precision import resolve
from voxkit.train import distributed, persistence, report, step
from voxkit.train.averaging import RunningAverage
from voxkit.train.budget import Budget
from voxkit.train.config import TrainConfig
from voxkit.train.interrupt import Interrupt
from voxkit.train.logging import RunLog
from voxkit.train.mirror import Mirror
from voxkit.train.optimisers import build_optimiser
from voxkit.train.remedies import Diverged, DivergenceWatch
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


class Trainer:
    """Trains a model; with several processes (see `distributed`), one Trainer in each.

    Args:
        model: `loss(batch) -> {"loss": scalar, other numbers, optionally "weight": what the loss is a mean over (default: utterances)}`;
            optionally `set_step(step)`, `checkpoint_state_dict()`, `enable_activation_checkpointing()`.
        loader: iterable of Batch with `set_epoch(n)`, `state_dict()`, `load_state_dict(state)`; optionally a length.
        config: see TrainConfig.
        run_dir: a run found there is continued.
        validate: the model in eval mode → metrics; a pair (numerator, denominator) is summed over processes, then divided.
        device: where to train.
        extra_meta: goes into every meta.json.
        save_extra: writes config.yaml, tokenizer.model ... into the checkpoint directory that it is given.
        on_step: called after every optimiser step with its number and losses.
        tensorboard: whether to write it.

    Raises:
        ValueError: a configuration that does not fit the model or loader.
    """

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
        self.optimiser = build_optimiser(model, config.optimiser, config.groups)
        self.total_steps = self._schedule_end()
        self.schedule = build_schedule(self.optimiser, replace(config.schedule, total_steps=self.total_steps))
        self.scaler = torch.amp.GradScaler(self.world.device.type, init_scale=2.0**10, enabled=self.dtype == torch.float16)
        self.average = RunningAverage(model, config.average) if config.average.kind != "none" else None
        self.net = distributed.wrap(model, self.world, config.find_unused_parameters)
        if self.world.rank:  # dropout of its own; rank 0 keeps the caller's seed
            seed = torch.initial_seed() % 2**31 + self.world.rank
            torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        self.state = TrainState()
        self.watch = DivergenceWatch(config.remedies, self.state.watch)
        self.git = git_hash() if self.world.main else ""
        self.saved: tuple | None = None  # where the last checkpoint was written
        self.last_checkpoint: Path | None = None
        self.back_at = -1  # step that the last divergence went back to
        self._spare: Batch | None = None

    def fit(self) -> FitResult:
        """Train to the end, the budget or an interruption; a run that is there already is continued.

        Raises:
            NonFiniteLoss, Diverged: where the remedies are off or used up.
        """
        self.log = RunLog(self.run_dir, self.world.main)
        with contextlib.ExitStack() as stack:
            stack.callback(self.log.close)
            self.mirror = None
            if self.config.mirror and self.world.main:
                self.mirror = Mirror(self.config.mirror, self.run_dir, self.config.mirror_every)
                stack.callback(self.mirror.close)
            self.interrupt = stack.enter_context(Interrupt())
            resumed = persistence.resume(self)
            self.budget = Budget(self.run_dir / "budget.json", self.config.max_hours, self.config.price_per_hour, self.config.currency)
            if resumed:
                self.budget.at_least(read_meta(self.root / resumed).get("hours", 0.0))
            self.log.start(self.state.step, self.tensorboard)
            report.announce(self, resumed)
            if not resumed and self.config.remedies.halve_on_divergence:
                persistence.save(self)  # something to go back to
            self.started_at = self.state.step
            self.mark = (time.monotonic(), self.state.seconds)
            reason = self._over() or ("budget" if distributed.broadcast(self.world, self.budget.spent) else "")
            self.model.train()
            while not reason:
                try:
                    reason = self._epoch() or self._over()
                except Diverged as error:
                    persistence.go_back(self, error)
            return self._finish(reason)

    def _epoch(self) -> str:
        """The rest of the current epoch; why the run is over, or nothing."""
        self.model.train()
        for group in self._groups():
            values, stop = step.step(self, group)
            if values is not None:
                self._after_step(values)
                stop = stop or self._over()
            if stop:
                return stop
        if not self.state.batches:
            raise ValueError("the loader gave no batch in a whole epoch: is every utterance longer than data.max_duration, or left out?")
        self.state.epoch += 1
        self.state.batches = 0
        self.loader.set_epoch(self.state.epoch)
        self.schedule.step_epoch(self.state.epoch)
        if not self.config.validate_every:
            self._validate()
        persistence.save(self)
        return ""

    def _groups(self) -> Iterator[list[tuple[Batch, float]]]:
        """The batches of each optimiser step with their weight. A process that has run out repeats a batch at weight 0, so that
        all take the same number of steps."""
        batches = iter(self.loader)
        while True:
            group = list(itertools.islice(batches, self.config.accumulate))
            if group and self.world.size > 1:
                self._spare = group[-1]
            needed = self.world.size > 1 and self._spare is None
            longest, lacking = distributed.reduce(self.world, [len(group), float(needed)], "max")
            if not longest:
                return
            if lacking:
                spares = [spare for spare in distributed.gather(self.world, self._spare) if spare is not None]
                self._spare = self._spare or spares[0]
            self.state.batches += int(longest)
            yield [(batch, 1.0) for batch in group] + [(self._spare, 0.0)] * (int(longest) - len(group))  # type: ignore[list-item]

    def _after_step(self, values: dict[str, float]) -> None:
        """Log, validate and save where it is time to."""
        state, config = self.state, self.config
        if self.watch.update(values["loss"]):
            raise Diverged(f"the loss diverged at step {state.step}: {self.watch}")
        for name, value in values.items():
            state.window[name] = state.window.get(name, 0.0) + value
        state.window["steps"] = state.window.get("steps", 0) + 1
        if state.step % config.log_every == 0:
            report.window(self)
        self.log.progress(state.step, self.total_steps, f"epoch {state.epoch} loss {report.short(values['loss'])}, {self.budget}")
        if self.on_step is not None:
            self.on_step(state.step, values)
        due = bool(config.validate_every) and state.step % config.validate_every == 0
        if due:
            self._validate()
        if due or config.checkpoint_every and state.step % config.checkpoint_every == 0:
            persistence.save(self)

    def _validate(self) -> None:
        """Metrics of the current weights, or of their running average, into the history and the log."""
        if self.validate is None:
            return
        self.model.eval()
        swapped = self.average.swapped_into(self.model) if self.validates_average else contextlib.nullcontext()  # type: ignore[union-attr]
        with torch.no_grad(), swapped:
            metrics = distributed.reduce_metrics(self.world, self.validate(self.model))
        self.model.train()
        state, config = self.state, self.config
        if config.metric not in metrics:
            raise ValueError(f"train.metric {config.metric!r} is not among what the validation measures: {', '.join(sorted(metrics))}")
        value, sign = metrics[config.metric], 1 if config.mode == "min" else -1
        better = value == value and (state.best is None or sign * value < sign * state.best)
        state.best = value if better else state.best
        state.since_best = 0 if better else state.since_best + 1
        state.history.append({"step": state.step, "epoch": state.epoch, **metrics})
        self.log.record("validation", state.step, state.epoch, metrics)
        shown = " ".join(f"{name} {report.short(v)}" for name, v in metrics.items())
        compared = "best" if better else f"best {config.metric} {report.short(state.best)}"
        self.log.info(f"validation at step {state.step}: {shown} ({compared})")

    def _over(self) -> str:
        state, config = self.state, self.config
        if config.patience and state.since_best >= config.patience:
            return "early_stop"
        if config.max_steps and state.step >= config.max_steps or state.epoch >= config.epochs:
            return "finished"
        return ""

    def _finish(self, reason: str) -> FitResult:
        """The last validation and checkpoint, the average of the best, and the last line."""
        state = self.state
        complete = reason in ("finished", "early_stop")
        if complete and state.window.get("steps"):
            report.window(self)
        if complete and not (state.history and state.history[-1]["step"] == state.step):
            self._validate()
        persistence.save(self, final=True)
        if self.mirror is not None:
            self.mirror.close()
            persistence.tidy(self)
        averaged = self._average_best() if complete and self.config.average.best else None
        result = FitResult(reason, state.step, state.epoch, dict(state.history[-1]) if state.history else {}, state.best,
                           self.last_checkpoint, averaged, self.budget.hours, self.budget.cost, state.skipped)
        report.last_line(self, result)
        return result

    def _average_best(self) -> Path | None:
        """checkpoints/averaged, with its own metrics, unless the best alone is better; the model is left with the weights of the two that
        are."""
        metric, mode = self.config.metric, self.config.mode
        best = best_checkpoints(list_checkpoints(self.root), metric, mode, self.config.average.best) if self.world.main else []
        found = distributed.broadcast(self.world, best)  # the main process writes the last one: the others may not see it yet
        if not found:
            self.log.event(self.state.step, self.state.epoch, f"train.average.best: no checkpoint has the metric {metric!r}")
            return None
        left_out = set(found[0].meta.get("left_out", ()))
        load_state(self.model, average_checkpoints([c.path for c in found], "auto"), left_out)
        metrics: dict[str, float] = {}
        if self.validate is not None:
            self.model.eval()
            with torch.no_grad():
                metrics = distributed.reduce_metrics(self.world, self.validate(self.model))
        names = [c.path.name for c in found]
        text = f"average of {', '.join(names)}: " + " ".join(f"{name} {report.short(v)}" for name, v in metrics.items())
        alone, together = found[0].metric(metric) or 0.0, metrics.get(metric)
        if together is not None and not (together <= alone if mode == "min" else together >= alone):
            self.log.info(f"{text}: worse than {names[0]} alone, and not kept")
            load_state(self.model, read_weights(found[0].path, "auto"), left_out)
            if self.world.main and (self.root / "averaged").is_dir():
                remove(self.root / "averaged")
            return None
        if self.world.main:
            write_checkpoint(self.root, self.model, {**found[0].meta, "metrics": metrics, "averaged": names, "validated": "model",
                                                           "average": None}, save_extra=self.save_extra, name="averaged")
        self.log.info(text)
        return self.root / "averaged"

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
