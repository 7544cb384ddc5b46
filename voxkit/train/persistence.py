"""Saving and resuming a Trainer: everything that makes a continued run the same as an unbroken one, to the last bit on a CPU."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from voxkit.checkpoint.folder import best_checkpoints, list_checkpoints, prune, recover, remove
from voxkit.checkpoint.format import get_pointer, read_meta, set_pointer, write_checkpoint
from voxkit.checkpoint.weights import load_state, read_weights
from voxkit.precision import dtype_name
from voxkit.train import distributed
from voxkit.train.remedies import DivergenceWatch
from voxkit.train.state import TrainState, random_state, restore_random_state

if TYPE_CHECKING:
    from voxkit.train.loop import Trainer

# Of an optimiser: a continued run takes these from its configuration, and its rates from the checkpoint.
SETTINGS = ("betas", "eps", "momentum", "weight_decay", "clipping_scale")


def save(t: Trainer, final: bool = False) -> None:
    """Write a checkpoint (main process), move the pointers, prune, mirror. All processes call it, between two steps."""
    state = t.state
    this = (state.step, state.epoch, state.batches, len(state.history))
    if t.saved != this:
        ranks = distributed.gather(t.world, {"loader": t.loader.state_dict(), "random": random_state()})
        if t.world.main:
            t.budget.save()
            tensors = {"optimiser": t.optimiser.state_dict(), "schedule": t.schedule.state_dict(), "scaler": t.scaler.state_dict(),
                       "ranks": ranks}
            written = write_checkpoint(t.root, t.model, _meta(t), training=(state.as_dict(), tensors), save_extra=t.save_extra,
                                            average=t.average.state if t.average is not None and t.average.count else None)
            t.last_checkpoint = written.path
            _point_at_best(t)
            kept = tidy(t)
            if t.mirror is not None and state.step:
                t.mirror.push(written.path, kept, always=final)
        t.saved = this
    elif final and t.world.main and t.mirror is not None and t.last_checkpoint is not None:
        t.mirror.push_last(t.last_checkpoint, [c.path.name for c in list_checkpoints(t.root, warn=False)])


def tidy(t: Trainer) -> list[str]:
    """Delete the checkpoints that need not be kept → names of those that are."""
    config = t.config
    return prune(t.root, config.keep_last, config.keep_best, config.metric, config.mode, t.mirror.busy if t.mirror is not None else ())


def resume(t: Trainer) -> str:
    """Continue from the newest whole checkpoint of the run, or of its mirror where the run has none.

    Returns:
        The checkpoint's name; empty for a fresh start.
    """
    name = ""
    if t.world.main:
        t.root.mkdir(parents=True, exist_ok=True)
        recover(t.root)
        if not list_checkpoints(t.root) and t.mirror is not None:
            fetched = t.mirror.fetch(t.root, t.extra_meta.get("name", ""))
            if fetched is not None:
                t.log.info(f"this run has no checkpoint of its own: going on from {t.mirror.url}/{fetched.name}")
        whole = [c for c in list_checkpoints(t.root, warn=False) if c.resumable]
        name = whole[-1].path.name if whole else ""
        if not whole and any(t.root.glob("step-*")):
            t.log.event(0, 0, f"none of the checkpoints in {t.root} can be resumed: starting anew")
    name = distributed.broadcast(t.world, name)
    if name:
        restore(t, t.root / name)
    else:
        t.loader.set_epoch(0)
    return name


def restore(t: Trainer, path: Path) -> None:
    """Put a checkpoint back into model, optimiser, schedule, loader, generators and state.

    Raises:
        ValueError: it does not fit the model or the optimiser.
    """
    meta = read_meta(path)
    load_state(t.model, read_weights(path, "model"), set(meta.get("left_out", ())), str(path))
    t.state = TrainState.from_dict(json.loads((path / "training" / "state.json").read_text(encoding="utf-8")))
    t.watch = DivergenceWatch(t.config.remedies, t.state.watch)
    # Our own file of our own run, with whatever the loader calls its position: not limited to tensors.
    saved: dict[str, Any] = torch.load(path / "training" / "tensors.pt", map_location="cpu", weights_only=False)
    _load_optimiser(t, saved, meta, path)
    t.schedule.load_state_dict(saved["schedule"])
    _load_scaler(t, saved["scaler"], meta, path)
    kept = meta.get("average")
    if t.average is not None:
        if kept and kept["kind"] == t.config.average.kind:
            t.average.load(read_weights(path, "average"), kept["count"])
        else:
            t.average.restart(t.model)
    if len(saved["ranks"]) == t.world.size:
        mine = saved["ranks"][t.world.rank]
        t.loader.load_state_dict(mine["loader"])
        restore_random_state(mine["random"])
    else:
        t.log.event(t.state.step, t.state.epoch, f"{path.name} was written by {len(saved['ranks'])} processes and is continued by "
                    f"{t.world.size}: epoch {t.state.epoch} begins anew")
        t.loader.set_epoch(t.state.epoch)
        t.state.batches = 0
    t.saved = (t.state.step, t.state.epoch, t.state.batches, len(t.state.history))
    t.last_checkpoint = path


def go_back(t: Trainer, error: Exception) -> None:
    """After a divergence: the last good checkpoint with half the rate; the one before, where that has been tried already.

    Raises:
        the error: the remedy is off, used up, or there is no checkpoint.
    """
    halvings, scale = t.state.halvings + 1, t.state.rate_scale / 2
    name = ""
    if t.world.main and halvings <= t.config.remedies.halve_on_divergence:
        whole = [c for c in list_checkpoints(t.root) if c.resumable]
        if len(whole) > 1 and whole[-1].step <= t.back_at:
            remove(whole.pop().path)
        name = whole[-1].path.name if whole else ""
    name = distributed.broadcast(t.world, name)
    if not name:
        tried = f" after halving the learning rate {halvings - 1} times" if halvings > 1 else ""
        raise type(error)(f"{error}{tried}; lower train.optimiser.lr, lengthen train.schedule.warmup_steps, or look at the utterances "
                          "that train.log names") from error
    at = t.state.step
    restore(t, t.root / name)
    t.schedule.scale(scale / t.state.rate_scale)
    t.state.halvings, t.state.rate_scale, t.back_at = halvings, scale, t.state.step
    t.saved = None
    if t.world.main:
        set_pointer(t.root, "latest", name)
    t.log.event(at, t.state.epoch, f"{error}: back to {name}, learning rate times {scale:g} "
                f"({halvings} of at most {t.config.remedies.halve_on_divergence} times)")


def _meta(t: Trainer) -> dict[str, Any]:
    state = t.state
    measured = state.history[-1] if state.history and state.history[-1]["step"] == state.step else {}
    return {
        "format": 1, "step": state.step, "epoch": state.epoch, "git": t.git, "torch": torch.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "hours": t.budget.hours, "seconds_of_audio": state.seconds,
        "processes": t.world.size, "precision": dtype_name(t.dtype), "optimiser": t.config.optimiser.name,
        "metrics": {k: v for k, v in measured.items() if k not in ("step", "epoch")},
        "validated": "average" if t.validates_average else "model",
        "average": {"kind": t.config.average.kind, "count": t.average.count} if t.average is not None and t.average.count else None,
        **t.extra_meta,
    }


def _point_at_best(t: Trainer) -> None:
    best = best_checkpoints(list_checkpoints(t.root, warn=False), t.config.metric, t.config.mode)
    if best and (get_pointer(t.root, "best") != best[0].path):
        set_pointer(t.root, "best", best[0].path.name)


def _load_scaler(t: Trainer, saved: dict[str, Any], meta: dict[str, Any], path: Path) -> None:
    """The scale of the loss; only fp16 has one, and with `precision: auto` another machine may compute in another precision."""
    if saved and t.scaler.is_enabled():
        t.scaler.load_state_dict(saved)
    before, now = meta.get("precision"), dtype_name(t.dtype)
    if before and before != now:
        t.log.event(t.state.step, t.state.epoch, f"{path.name} was trained in {before} and goes on in {now} "
                    f"(train.precision={t.config.precision}): not to the bit what it would have been")


def _load_optimiser(t: Trainer, saved: dict[str, Any], meta: dict[str, Any], path: Path) -> None:
    groups, saved_groups = t.optimiser.param_groups, saved["optimiser"]["param_groups"]
    name = t.config.optimiser.name
    if (before := meta.get("optimiser", name)) != name:  # a checkpoint of before 2026-11-28 does not say it
        raise ValueError(f"the optimiser of {path} is {before} and this run's {name}: what one remembers means nothing to the other. Keep "
                         f"train.optimiser.name={before}, or start a new run from its weights (init=...)")
    own = [(len(g["params"]), g.get("initial_lr", g["lr"])) for g in groups]
    there = [(len(g["params"]), g.get("initial_lr", g["lr"])) for g in saved_groups]
    if [n for n, _ in own] != [n for n, _ in there]:
        raise ValueError(f"the parameter groups of {path} have {[n for n, _ in there]} parameters, this run's {[n for n, _ in own]}: "
                         "train.groups or what is frozen has changed. Start a new run from its weights (init=...)")
    settings = [{name: g[name] for name in SETTINGS if name in g} for g in groups]
    t.optimiser.load_state_dict(saved["optimiser"])
    for group, now in zip(t.optimiser.param_groups, settings):
        group.update(now)
    if own != there:
        t.log.event(t.state.step, t.state.epoch, f"the learning rates of {path.name} go on ({[lr for _, lr in there]}), not those of the "
                    f"configuration ({[lr for _, lr in own]}): to change them, start a new run from its weights")
