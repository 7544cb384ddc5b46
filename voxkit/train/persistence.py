"""Saving and resuming a Trainer: everything that makes a continued run the same as an unbroken one, to the last bit on a CPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from voxkit.checkpoint.external import check_externals
from voxkit.checkpoint.folder import best_checkpoints, list_checkpoints, prune, recover, remove
from voxkit.checkpoint.format import Checkpoint, amend_checkpoint, damage, get_pointer, read_meta, set_pointer, write_checkpoint
from voxkit.checkpoint.weights import load_state, read_training, read_weights
from voxkit.precision import dtype_name
from voxkit.train import distributed
from voxkit.train.parts import RunParts
from voxkit.train.remedies import DivergenceWatch
from voxkit.train.state import TrainState, random_state, restore_random_state

# Of an optimizer: a continued run takes these from its configuration, and its rates from the checkpoint.
SETTINGS = ("betas", "eps", "momentum", "weight_decay", "clipping_scale")


def save(run: RunParts, final: bool = False) -> None:
    """Write a checkpoint (main process), move the pointers, prune, mirror. All processes call it, between two steps.

    Where only a validation has happened since the last one, that one is amended: the weights are not written again.
    """
    state = run.state
    place, this = _place(run), (*_place(run), len(state.history), state.unmeasured)
    if run.saved == this:
        if final and run.mirror is not None and run.last_checkpoint is not None:
            run.mirror.push_last(run.last_checkpoint, [c.path.name for c in list_checkpoints(run.root, warn=False)])
        return
    amend = run.saved is not None and run.saved[:len(place)] == place
    ranks = [] if amend else distributed.gather(run.world, {"loader": run.loader.state_dict(), "random": random_state()})
    if run.world.main:
        run.budget.save()
        if amend and run.last_checkpoint is not None:
            written = amend_checkpoint(run.last_checkpoint, _meta(run), state.as_dict())
        else:
            tensors = {"optimizer": run.optimizer.state_dict(), "schedule": run.schedule.state_dict(), "scaler": run.scaler.state_dict(),
                       "ranks": ranks}
            written = write_checkpoint(run.root, run.model, _meta(run), training=(state.as_dict(), tensors), save_extra=run.save_extra,
                                       average=run.average.state if run.average is not None and run.average.count else None)
        run.last_checkpoint = written.path
        _point_at_best(run)
        kept = tidy(run)
        if run.mirror is not None and state.step and (final or not state.unmeasured):  # with its metrics, which come in a moment
            run.mirror.push(written.path, kept, always=final)
    run.saved = this


def tidy(run: RunParts) -> list[str]:
    """Delete the checkpoints that need not be kept → names of those that are."""
    config, busy = run.config, run.mirror.busy if run.mirror is not None else ()
    return prune(run.root, config.keep_last, config.keep_best, config.metric, config.mode, busy)


def resume(run: RunParts) -> str:
    """Continue from the newest whole checkpoint of the run, or of its mirror where the run has none.

    Returns:
        The checkpoint's name; empty for a fresh start.
    """
    name = ""
    if run.world.main:
        run.root.mkdir(parents=True, exist_ok=True)
        recover(run.root)
        if not list_checkpoints(run.root) and run.mirror is not None:
            fetched = run.mirror.fetch(run.root, run.extra_meta.get("name", ""))
            if fetched is not None:
                run.log.info(f"this run has no checkpoint of its own: going on from {run.mirror.url}/{fetched.name}")
        newest = _newest(run)
        name = newest.path.name if newest is not None else ""
        if not name and any(run.root.glob("step-*")):
            run.log.event(0, 0, f"none of the checkpoints in {run.root} can be resumed: starting anew")
    name = distributed.broadcast(run.world, name)
    if name:
        restore(run, run.root / name)
    else:
        run.loader.set_epoch(0)
    return name


def restore(run: RunParts, path: Path) -> None:
    """Put a checkpoint back into model, optimizer, schedule, loader, generators and state.

    Raises:
        ValueError: it does not fit the model or the optimizer, was trained with another tokenizer or over other external weights, or holds
            something that could run code.
    """
    meta = read_meta(path)
    _check_tokenizer(run, meta, path)
    check_externals(run.model, meta, str(path))
    values, saved = read_training(path)
    load_state(run.model, read_weights(path, "model"), set(meta.get("left_out", ())), str(path))
    run.state = TrainState.from_dict(values)
    run.watch = DivergenceWatch(run.config.remedies, run.state.watch)
    _load_optimizer(run, saved, meta, path)
    run.schedule.load_state_dict(saved["schedule"])
    _load_scaler(run, saved["scaler"], meta, path)
    kept = meta.get("average")
    if run.average is not None:
        if kept and kept["kind"] == run.config.average.kind:
            run.average.load(read_weights(path, "average"), kept["count"])
        else:
            run.average.restart(run.model)
    if len(saved["ranks"]) == run.world.size:
        mine = saved["ranks"][run.world.rank]
        run.loader.load_state_dict(mine["loader"])
        restore_random_state(mine["random"])
    else:
        run.log.event(run.state.step, run.state.epoch, f"{path.name} was written by {len(saved['ranks'])} processes and is continued by "
                    f"{run.world.size}: epoch {run.state.epoch} begins anew")
        run.loader.set_epoch(run.state.epoch)
        run.state.batches = 0
    run.saved = (*_place(run), len(run.state.history), run.state.unmeasured)
    run.last_checkpoint = path


def go_back(run: RunParts, error: Exception) -> None:
    """After a divergence: the last good checkpoint with half the rate; the one before, where that has been tried already.

    Raises:
        the error: the remedy is off, used up, or there is no checkpoint.
    """
    halvings, scale = run.state.halvings + 1, run.state.rate_scale / 2
    name = ""
    if run.world.main and halvings <= run.config.remedies.halve_on_divergence:
        newest = _newest(run)
        if newest is not None and newest.step <= run.back_at and (before := _newest(run, newest.step)) is not None:
            remove(newest.path)
            newest = before
        name = newest.path.name if newest is not None else ""
    name = distributed.broadcast(run.world, name)
    if not name:
        tried = f" after halving the learning rate {halvings - 1} times" if halvings > 1 else ""
        raise type(error)(f"{error}{tried}; lower train.optimizer.lr, lengthen train.schedule.warmup_steps, or look at the utterances "
                          "that train.log names") from error
    at = run.state.step
    restore(run, run.root / name)
    run.schedule.scale(scale / run.state.rate_scale)
    run.state.halvings, run.state.rate_scale, run.back_at = halvings, scale, run.state.step
    run.saved = None
    if run.world.main:
        set_pointer(run.root, "latest", name)
    run.log.event(at, run.state.epoch, f"{error}: back to {name}, learning rate times {scale:g} "
                f"({halvings} of at most {run.config.remedies.halve_on_divergence} times)")


def _place(run: RunParts) -> tuple[int, int, int]:
    """Where in the training a run is: two checkpoints of the same place have the same weights."""
    return run.state.step, run.state.epoch, run.state.batches


def _newest(run: RunParts, below: int | None = None) -> Checkpoint | None:
    """The newest checkpoint that can be resumed, by what is in its files; damaged ones are named.

    Args:
        below: among those of earlier steps than this.
    """
    for checkpoint in reversed(list_checkpoints(run.root, warn=False)):
        if below is not None and checkpoint.step >= below or not (checkpoint.path / "training").is_dir():
            continue
        wrong = damage(checkpoint.path, training=True, content=True)
        if not wrong:
            return checkpoint
        run.log.event(checkpoint.step, int(checkpoint.meta.get("epoch", 0)),
                      f"{checkpoint.path} cannot be resumed: {wrong}. Going back to the checkpoint before it")
    return None


def _check_tokenizer(run: RunParts, meta: dict[str, Any], path: Path) -> None:
    own, there = run.extra_meta.get("tokenizer"), meta.get("tokenizer")
    if own and there and own != there:
        raise ValueError(f"{path} was trained with another tokenizer ({there}) than lies there now ({own}): its outputs would mean other "
                         "pieces. Put back the tokenizer of the run (there is a copy in the checkpoint), or begin another run (--fresh, or "
                         "--name)")


def _meta(run: RunParts) -> dict[str, Any]:
    state = run.state
    measured = state.history[-1] if state.history and state.history[-1]["step"] == state.step else {}
    return {
        "format": 1, "step": state.step, "epoch": state.epoch, "git": run.git, "torch": torch.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "hours": run.budget.hours, "seconds_of_audio": state.seconds,
        "processes": run.world.size, "precision": dtype_name(run.dtype), "optimizer": run.config.optimizer.name,
        "metrics": {k: v for k, v in measured.items() if k not in ("step", "epoch")},
        "validated": "average" if run.validates_average else "model",
        "average": {"kind": run.config.average.kind, "count": run.average.count} if run.average is not None and run.average.count else None,
        **run.extra_meta,
    }


def _point_at_best(run: RunParts) -> None:
    best = best_checkpoints(list_checkpoints(run.root, warn=False), run.config.metric, run.config.mode)
    if best and (get_pointer(run.root, "best") != best[0].path):
        set_pointer(run.root, "best", best[0].path.name)


def _load_scaler(run: RunParts, saved: dict[str, Any], meta: dict[str, Any], path: Path) -> None:
    """The scale of the loss; only fp16 has one, and with `precision: auto` another machine may compute in another precision."""
    if saved and run.scaler.is_enabled():
        run.scaler.load_state_dict(saved)
    before, now = meta.get("precision"), dtype_name(run.dtype)
    if before and before != now:
        run.log.event(run.state.step, run.state.epoch, f"{path.name} was trained in {before} and goes on in {now} "
                    f"(train.precision={run.config.precision}): not to the bit what it would have been")


def _load_optimizer(run: RunParts, saved: dict[str, Any], meta: dict[str, Any], path: Path) -> None:
    groups, saved_groups = run.optimizer.param_groups, saved["optimizer"]["param_groups"]
    name = run.config.optimizer.name
    if (before := meta.get("optimizer", name)) != name:  # a checkpoint of before 2026-11-28 does not say it
        raise ValueError(f"the optimizer of {path} is {before} and this run's {name}: what one remembers means nothing to the other. Keep "
                         f"train.optimizer.name={before}, or start a new run from its weights (init=...)")
    own = [(len(g["params"]), g.get("initial_lr", g["lr"])) for g in groups]
    there = [(len(g["params"]), g.get("initial_lr", g["lr"])) for g in saved_groups]
    if [n for n, _ in own] != [n for n, _ in there]:
        raise ValueError(f"the parameter groups of {path} have {[n for n, _ in there]} parameters, this run's {[n for n, _ in own]}: "
                         "train.groups or what is frozen has changed. Start a new run from its weights (init=...)")
    settings = [{name: g[name] for name in SETTINGS if name in g} for g in groups]
    run.optimizer.load_state_dict(saved["optimizer"])
    for group, now in zip(run.optimizer.param_groups, settings):
        group.update(now)
    if own != there:
        run.log.event(run.state.step, run.state.epoch, f"the learning rates of {path.name} go on ({[lr for _, lr in there]}), not those of "
                    f"the configuration ({[lr for _, lr in own]}): to change them, start a new run from its weights")
