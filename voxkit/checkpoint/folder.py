"""The checkpoints of a run: which are there and whole, which are the last and the best, which may go."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from voxkit.checkpoint.format import OLD, TEMPORARY, TRASH, Checkpoint, damage, get_pointer, read_meta

log = logging.getLogger("voxkit.train")


def list_checkpoints(root: Path, warn: bool = True) -> list[Checkpoint]:
    """The whole checkpoints, oldest first; torn ones are named in the log and ignored."""
    found = []
    for path in sorted(root.glob("step-*")) if root.is_dir() else []:
        wrong = damage(path)
        if not wrong:
            found.append(Checkpoint(path, read_meta(path)))
        elif warn:
            log.warning("ignoring checkpoint %s: %s", path, wrong)
    return sorted(found, key=lambda c: c.step)


def recover(root: Path) -> None:
    """Clear what a killed run left: half-written directories go, one that was about to be replaced comes back."""
    for path in sorted(root.glob(".*")) if root.is_dir() else []:
        if path.name.startswith(OLD) and not (root / path.name[len(OLD):]).exists():
            path.rename(root / path.name[len(OLD):])
        elif path.name.startswith((TEMPORARY, OLD, TRASH)):
            shutil.rmtree(path, ignore_errors=True)


def best_checkpoints(found: Iterable[Checkpoint], metric: str, mode: str = "min", count: int = 1) -> list[Checkpoint]:
    """The `count` best of those that have the metric, best first; of equals the later one."""
    rated = [(value, c) for c in found if (value := c.metric(metric)) is not None and value == value]
    sign = 1 if mode == "min" else -1
    return [c for _, c in sorted(rated, key=lambda r: (sign * r[0], -r[1].step))[:count]]


def prune(root: Path, keep_last: int, keep_best: int, metric: str, mode: str, busy: Iterable[str] = ()) -> list[str]:
    """Delete all but the last and the best checkpoints and those in `busy`; of the best that are not among the last, the training state.

    Returns:
        The names that are kept.
    """
    found = list_checkpoints(root, warn=False)
    last = {c.path.name for c in found[-keep_last:]}
    best = {c.path.name for c in best_checkpoints(found, metric, mode, keep_best)}
    for c in found:
        if c.path.name in busy:
            continue
        if c.path.name not in last | best:
            remove(c.path)
        elif c.path.name not in last and (c.path / "training").is_dir():
            remove(c.path / "training", root / f"{TRASH}{c.path.name}-training")
    return sorted(last | best)


def remove(path: Path, trash: Path | None = None) -> None:
    """Delete a directory so that a kill leaves it whole or gone."""
    trash = trash or path.with_name(f"{TRASH}{path.name}")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def resolve(path: str | os.PathLike, prefer: str = "best") -> Path:
    """A checkpoint directory from the path of one, of a checkpoints directory or of a run: the one that `prefer` (best, latest or
    averaged) names, else the newest.

    Raises:
        ValueError: there is none.
    """
    path = Path(path)
    if (path / "meta.json").is_file():
        wrong = damage(path)
        if wrong:
            raise ValueError(f"checkpoint {path} is not whole: {wrong}")
        return path
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if (root / prefer).is_dir() and not damage(root / prefer):
        return root / prefer
    for pointer in dict.fromkeys((prefer, "latest")):
        found = get_pointer(root, pointer)
        if found is not None:
            return found
    newest = list_checkpoints(root)
    if not newest:
        raise ValueError(f"no checkpoint in {path}: it has no meta.json, and holds no whole step-… directory, nor does its checkpoints/")
    return newest[-1].path
