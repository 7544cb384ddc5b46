"""Validation of a run: metrics of its weights, what is best, and the average of the best at the end."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from voxkit.checkpoint.averaging import average_checkpoints
from voxkit.checkpoint.folder import best_checkpoints, list_checkpoints, remove
from voxkit.checkpoint.format import write_checkpoint
from voxkit.checkpoint.weights import load_state, read_weights
from voxkit.train import distributed
from voxkit.train.parts import RunParts
from voxkit.train.report import short
from voxkit.train.state import undisturbed_random_state


def validate(run: RunParts) -> None:
    """Metrics of the current weights, or of their running average, into the history and the log.

    Raises:
        ValueError: the configured metric is not measured, or there was nothing to measure it on.
    """
    if run.validate is None:
        return
    state, config = run.state, run.config
    metrics = measure(run, average=run.validates_average)
    if config.metric not in metrics:
        raise ValueError(f"train.metric {config.metric!r} is not among what the validation measures: {', '.join(sorted(metrics))}")
    value, sign = metrics[config.metric], 1 if config.mode == "min" else -1
    better = value == value and (state.best is None or sign * value < sign * state.best)
    state.best = value if better else state.best
    state.since_best = 0 if better else state.since_best + 1
    state.history.append({"step": state.step, "epoch": state.epoch, **metrics})
    run.log.record("validation", state.step, state.epoch, metrics)
    shown = " ".join(f"{name} {short(v)}" for name, v in metrics.items())
    compared = "best" if better else f"best {config.metric} {short(state.best)}"
    run.log.info(f"validation at step {state.step}: {shown} ({compared})")


def measure(run: RunParts, average: bool = False) -> dict[str, float]:
    """What `run.validate` says of the weights, or of their running average, over all processes. The random generators stay as they are, so
    that a run that is resumed behind a validation is the same as one that goes through it.

    Raises:
        ValueError: no process had anything to measure the configured metric on.
    """
    assert run.validate is not None
    run.model.eval()
    swapped = run.average.swapped_into(run.model) if average and run.average is not None else contextlib.nullcontext()
    try:
        with torch.no_grad(), swapped, undisturbed_random_state():
            own = run.validate(run.model)
    finally:
        run.model.train()
    metrics, counts = distributed.reduce_metrics(run.world, own)
    if counts.get(run.config.metric) == 0:
        raise ValueError(f"the validation has nothing to measure {run.config.metric} on: data.dev holds no utterance, or none with a text")
    return metrics


def average_best(run: RunParts) -> Path | None:
    """checkpoints/averaged, with its own metrics, unless the best alone is better; the model is left with the weights of the two that
    are."""
    metric, mode = run.config.metric, run.config.mode
    best = best_checkpoints(list_checkpoints(run.root), metric, mode, run.config.average.best) if run.world.main else []
    found = distributed.broadcast(run.world, best)  # the main process writes the last one: the others may not see it yet
    if not found:
        run.log.event(run.state.step, run.state.epoch, f"train.average.best: no checkpoint has the metric {metric!r}")
        return None
    left_out = set(found[0].meta.get("left_out", ()))
    load_state(run.model, average_checkpoints([c.path for c in found], "auto"), left_out)
    metrics = measure(run) if run.validate is not None else {}
    names = [c.path.name for c in found]
    text = f"average of {', '.join(names)}: " + " ".join(f"{name} {short(v)}" for name, v in metrics.items())
    alone, together = found[0].metric(metric) or 0.0, metrics.get(metric)
    if together is not None and not (together <= alone if mode == "min" else together >= alone):
        run.log.info(f"{text}: worse than {names[0]} alone, and not kept")
        load_state(run.model, read_weights(found[0].path, "auto"), left_out)
        if run.world.main and (run.root / "averaged").is_dir():
            remove(run.root / "averaged")
        return None
    if run.world.main:
        meta = {**found[0].meta, "metrics": metrics, "averaged": names, "validated": "model", "average": None}
        write_checkpoint(run.root, run.model, meta, save_extra=run.save_extra, name="averaged")
    run.log.info(text)
    return run.root / "averaged"
