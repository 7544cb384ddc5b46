"""Averages of weights over checkpoints (Izmailov et al. 2018); the mean between two checkpoints from their running means is icefall's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from voxkit.checkpoint.folder import best_checkpoints, list_checkpoints
from voxkit.checkpoint.format import damage, read_meta, write_state
from voxkit.checkpoint.weights import read_weights


def average_states(states: Sequence[dict[str, Tensor]], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Weighted mean of state dicts, computed in float64 and given in each tensor's own type; integers are the first one's.

    Args:
        weights: sum to 1; by default all equal. They may be negative (see `average_between`).

    Raises:
        ValueError: nothing to average, or names that differ.
    """
    if not states:
        raise ValueError("there is no checkpoint to average")
    weights = [1 / len(states)] * len(states) if weights is None else weights
    out = {}
    for name, first in states[0].items():
        lacking = [i for i, state in enumerate(states) if name not in state or state[name].shape != first.shape]
        if lacking:
            raise ValueError(f"checkpoint number {lacking[0] + 1} of those to average has no {name} of shape {list(first.shape)}: "
                             "they come from different models")
        if first.is_floating_point():
            total = sum(weight * state[name].double() for weight, state in zip(weights, states))
            out[name] = total.to(first.dtype)  # type: ignore[union-attr]
        else:
            out[name] = first.clone()
    return out


def average_checkpoints(directories: Sequence[Path | str], weights: str = "model") -> dict[str, Tensor]:
    """Mean of the weights of checkpoint directories (`weights` as in `read_weights`).

    Raises:
        ValueError: one is not whole, or they come from different models, vocabularies or external weights.
    """
    _check_alike(list(map(Path, directories)))
    return average_states([read_weights(path, weights) for path in directories])


def average_between(first: Path | str, last: Path | str) -> dict[str, Tensor]:
    """Mean over all updates after checkpoint `first` up to `last`, from their running means (kind `mean`).

    Raises:
        ValueError: a checkpoint has no running mean, or the order is wrong.
    """
    counts = []
    _check_alike([Path(first), Path(last)])
    for path in (first, last):
        kept = read_meta(Path(path)).get("average") or {}
        if kept.get("kind") != "mean":
            raise ValueError(f"checkpoint {path} has no running mean: train with train.average.kind=mean")
        counts.append(int(kept["count"]))
    if counts[1] <= counts[0]:
        raise ValueError(f"no update of the running mean lies between {first} ({counts[0]}) and {last} ({counts[1]})")
    span = counts[1] - counts[0]
    states = [read_weights(last, "average"), read_weights(first, "average")]
    return average_states(states, [counts[1] / span, -counts[0] / span])


def select(run: Path | str, *, best: int = 0, last: int = 0, metric: str = "wer", mode: str = "min") -> list[Path]:
    """Checkpoints of a run: the `best` by a metric, or the `last`.

    Raises:
        ValueError: fewer than that.
    """
    root = Path(run) / "checkpoints" if (Path(run) / "checkpoints").is_dir() else Path(run)
    found = list_checkpoints(root)
    chosen = best_checkpoints(found, metric, mode, best) if best else found[-last:] if last else []
    wanted = best or last
    if len(chosen) < wanted or not wanted:
        known = sorted({name for c in found for name in c.meta.get("metrics", {})})
        raise ValueError(f"{wanted} checkpoints wanted, {len(chosen)} of the {len(found)} in {root} "
                         + (f"have the metric {metric!r} (there are: {', '.join(known) or 'none'})" if best else "are there"))
    return [c.path for c in chosen]


def write_averaged(state: dict[str, Tensor], sources: Sequence[Path], out: Path) -> None:
    """Write averaged weights as a checkpoint directory, with what the last of the sources has beside its weights.

    Raises:
        ValueError: `out` is one of the sources.
    """
    if out.resolve() in [path.resolve() for path in sources]:
        raise ValueError(f"{out} is one of the checkpoints to average; give another directory")
    meta = read_meta(sources[-1])

    def copy_beside(folder: Path) -> None:
        for path in sources[-1].iterdir():
            if path.is_file() and path.suffix != ".safetensors" and path.name != "meta.json":
                shutil.copy2(path, folder / path.name)

    names = [path.name for path in sources]
    write_state(out, state, {**meta, "metrics": {}, "average": None, "validated": "model", "averaged": names},
                save_extra=copy_beside)


def _check_alike(paths: Sequence[Path]) -> None:
    """
    Raises:
        ValueError: a checkpoint is not whole, or was trained with another vocabulary or over other external weights than the first.
    """
    first: dict[str, Any] = {}
    for path in paths:
        wrong = damage(path)
        if wrong:
            raise ValueError(f"checkpoint {path} cannot be averaged: {wrong}")
        meta = read_meta(path)
        first = first or meta
        if meta.get("tokenizer") != first.get("tokenizer"):
            raise ValueError(f"{path} was trained with another tokenizer ({meta.get('tokenizer')}) than {paths[0]} "
                             f"({first.get('tokenizer')}): their outputs mean other pieces; average checkpoints of one tokenizer")
        if _fingerprints(meta) != _fingerprints(first):
            raise ValueError(f"{path} was trained over other external weights ({_fingerprints(meta)}) than {paths[0]} "
                             f"({_fingerprints(first)}); average checkpoints over the same ones")


def _fingerprints(meta: dict[str, Any]) -> dict[str, str]:
    return {place: known["fingerprint"] for place, known in meta.get("externals", {}).items()}
