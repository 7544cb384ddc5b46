"""What a run says as it goes: its first line, the lines of the log, its last."""

from __future__ import annotations

import time

from voxkit.precision import dtype_name
from voxkit.train.parts import FitResult, RunParts

_LAST_LINE = {"finished": "Training finished", "early_stop": "Training stopped early: no better for train.patience validations; ended",
              "budget": "Budget used up (train.max_hours): the same command with more hours goes on; ended",
              "interrupted": "Interrupted: the same command goes on; ended"}


def short(value: float | None) -> str:
    """Four digits."""
    return "none" if value is None else f"{value:.4g}"


def announce(run: RunParts, resumed: str) -> None:
    """The first line: what is trained, where, on what."""
    trainable = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in run.model.parameters())
    how = f"continuing from {resumed}" if resumed else "starting"
    run.log.info(f"{how} in {run.run_dir}: {trainable / 1e6:.2f} M trainable of {total / 1e6:.2f} M parameters, "
               f"{run.world.size} x {run.world.device.type}, {dtype_name(run.dtype)}, git {run.git[:12]}")


def window(run: RunParts) -> None:
    """Means since the last line: to the log, metrics.json, TensorBoard and the bar."""
    state, config = run.state, run.config
    steps = state.window.pop("steps")
    values = {name: value / steps for name, value in state.window.items()}
    state.window.clear()
    (then, seconds), run.mark = run.mark, (time.monotonic(), state.seconds)
    speed = (state.seconds - seconds) / max(run.mark[0] - then, 1e-9)
    rates = [group["lr"] for group in run.optimizer.param_groups]
    used = {"hours": run.budget.hours, **({"cost": run.budget.cost} if config.price_per_hour else {})}
    run.log.record("train", state.step, state.epoch, {**values, "lr": max(rates), "speed": speed, **used})
    text = f"step {state.step} epoch {state.epoch} " + " ".join(f"{name} {short(v)}" for name, v in values.items())
    text += f" lr {max(rates):.2e} speed {speed:.0f}x {run.budget}"
    run.log.info(text)
    if run.world.main:
        run.budget.save()


def last_line(run: RunParts, result: FitResult) -> None:
    """How the run ended: the last line of the log, and a row of results.csv where it did anything."""
    state, config, budget = run.state, run.config, run.budget
    if state.step > run.started_at:
        run.log.result({"run": run.run_dir.name, "reason": result.reason, "step": state.step, "epoch": state.epoch,
                      f"best_{config.metric}": state.best, "hours": round(budget.hours, 4), "cost": round(budget.cost, 4),
                      "audio_hours": round(state.seconds / 3600, 3), "skipped": state.skipped, "git": run.git})
    best = f", best {config.metric} {short(state.best)}" if state.best is not None else ""
    skipped = f", {state.skipped} steps skipped" if state.skipped else ""
    run.log.info(f"{_LAST_LINE[result.reason]} after {state.step} steps, {state.epoch} epochs, {budget}{best}{skipped}; "
               f"checkpoint: {result.checkpoint}")
