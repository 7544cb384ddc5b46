"""Checkpoints: directories that describe themselves, written so that a kill at any moment leaves whole ones only.

    checkpoints/step-00001200/   config.yaml  tokenizer.model   from the recipe
                                 model.safetensors              weights, frozen pretrained ones left out
                                 average.safetensors            their running average, where one is kept
                                 meta.json                      step, epoch, metrics, git hash, names left out, sizes of all files
                                 training/                      state.json and tensors.pt: what a resumed run needs
    checkpoints/latest, best     text files with the name of a directory

A directory is filled under a temporary name, flushed to the disk and renamed. Only the last few keep `training/`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voxkit.files import write_text

log = logging.getLogger("voxkit.train")

_TEMPORARY, _OLD, _TRASH = ".tmp-", ".old-", ".trash-"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    meta: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.meta["step"])

    def metric(self, name: str) -> float | None:
        """A validation metric measured on it, or None."""
        return self.meta.get("metrics", {}).get(name)

    @property
    def resumable(self) -> bool:
        """True while its training state is there and whole."""
        return not damage(self.path, training=True)


def checkpoint_state(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: `model.checkpoint_state_dict()` where it defines one (it leaves frozen pretrained
    weights out), else all of `state_dict()`."""
    return getattr(model, "checkpoint_state_dict", model.state_dict)()


def write_checkpoint(root: Path, model: nn.Module, meta: dict[str, Any], *, training: tuple[dict[str, Any], Any] | None = None,
                     average: dict[str, Tensor] | None = None, save_extra: Callable[[Path], None] | None = None,
                     name: str = "") -> Checkpoint:
    """Write `root/step-…` and the pointer `latest`; a directory of that name is replaced.

    Args:
        root: the run's checkpoints directory.
        meta: goes into meta.json; must have "step".
        training: (plain values for state.json, anything torch.save takes for tensors.pt).
        average: a running average of the weights.
        save_extra: writes config.yaml, tokenizer.model and the like into the directory it is given.
        name: of the directory; by default from the step. `latest` is then left alone.
    """
    final = root / (name or f"step-{int(meta['step']):08d}")
    state = checkpoint_state(model)
    meta = {**meta, "left_out": sorted(set(model.state_dict()) - set(state))}
    written = write_state(final, state, meta, training=training, average=average, save_extra=save_extra)
    if not name:
        set_pointer(root, "latest", final.name)
    return written


def write_state(final: Path, state: dict[str, Tensor], meta: dict[str, Any], *, training: tuple[dict[str, Any], Any] | None = None,
                average: dict[str, Tensor] | None = None, save_extra: Callable[[Path], None] | None = None) -> Checkpoint:
    """The same from a state dict, to any directory."""
    partial = final.with_name(f"{_TEMPORARY}{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(state, partial / "model.safetensors")
    if average is not None:
        save_weights(average, partial / "average.safetensors")
    if save_extra is not None:
        save_extra(partial)
    if training is not None:
        (partial / "training").mkdir()
        (partial / "training" / "state.json").write_text(json.dumps(training[0]), encoding="utf-8")
        torch.save(training[1], partial / "training" / "tensors.pt")
    files = {p.relative_to(partial).as_posix(): p.stat().st_size for p in sorted(partial.rglob("*")) if p.is_file()}
    meta = {**meta, "files": files}
    (partial / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for path in (*partial.rglob("*"), partial):
        _flush(path)
    _replace(partial, final)
    return Checkpoint(final, meta)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """A state dict as safetensors; tensors that share memory are written out each."""
    seen: set[int] = set()
    plain = {}
    for key, value in state.items():
        value = value.detach().cpu()
        storage = value.untyped_storage()
        if not value.is_contiguous() or storage.data_ptr() in seen or storage.nbytes() != value.nbytes:
            value = value.clone(memory_format=torch.contiguous_format)
        seen.add(value.untyped_storage().data_ptr())
        plain[key] = value
    save_file(plain, path, metadata={"format": "pt"})


def damage(path: Path, training: bool = False) -> str:
    """What is wrong with a checkpoint directory; empty for a whole one. `training` asks for the training state too."""
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        files = dict(meta["files"])
        int(meta["step"])
    except FileNotFoundError:
        return "it has no meta.json"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its meta.json cannot be read ({error})"
    if training and "training/tensors.pt" not in files:
        return "it was written without training state"
    for name, size in files.items():
        if name.startswith("training/") and not training:
            continue
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            other = "; if it is another model's, put back the one of the run" if name == "tokenizer.model" else ""
            return f"{name} has {file.stat().st_size} of {size} bytes{other}"
    return ""


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


def read_meta(path: Path) -> dict[str, Any]:
    """A checkpoint's meta.json."""
    return json.loads((Path(path) / "meta.json").read_text(encoding="utf-8"))


def recover(root: Path) -> None:
    """Clear what a killed run left: half-written directories go, one that was about to be replaced comes back."""
    for path in sorted(root.glob(".*")) if root.is_dir() else []:
        if path.name.startswith(_OLD) and not (root / path.name[len(_OLD):]).exists():
            path.rename(root / path.name[len(_OLD):])
        elif path.name.startswith((_TEMPORARY, _OLD, _TRASH)):
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
            remove(c.path / "training", root / f"{_TRASH}{c.path.name}-training")
    return sorted(last | best)


def remove(path: Path, trash: Path | None = None) -> None:
    """Delete a directory so that a kill leaves it whole or gone."""
    trash = trash or path.with_name(f"{_TRASH}{path.name}")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def set_pointer(root: Path, pointer: str, name: str) -> None:
    """Make `latest` or `best` name a checkpoint."""
    write_text(root / pointer, name + "\n")


def get_pointer(root: Path, pointer: str) -> Path | None:
    """The whole checkpoint that a pointer names; None, and a line in the log, where it is torn or names none."""
    file = root / pointer
    if not file.is_file():
        return None
    name = file.read_bytes().decode("utf-8", "replace").strip()
    path = root / name
    wrong = "no name of a checkpoint" if "/" in name or not name or not path.is_dir() else damage(path)
    if wrong:
        log.warning("ignoring %s, which says %r: %s", file, name[:60], wrong)
        return None
    return path


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


def read_weights(path: str | os.PathLike, weights: str = "model") -> dict[str, Tensor]:
    """The state dict of a checkpoint directory on CPU.

    Args:
        weights: "model", "average" (the running average), or "auto": whichever of the two its metrics were measured on.
    """
    if weights not in ("auto", "model", "average"):
        raise ValueError(f"weights {weights!r} is none of auto, model, average")
    path = Path(path)
    if weights == "auto":
        weights = read_meta(path).get("validated", "model")
    file = path / f"{weights}.safetensors"
    if not file.is_file():
        raise ValueError(f"checkpoint {path} has no {file.name}" + (": no running average was kept" if weights == "average" else ""))
    return load_file(file)


def load_model_weights(model: nn.Module, directory: str | os.PathLike, weights: str = "auto") -> dict[str, Any]:
    """Load a checkpoint's weights into a model; every name must match, except those that the checkpoint left out as frozen.

    Args:
        directory: a checkpoint, or a run (its best).
        weights: as in `read_weights`.

    Returns:
        The checkpoint's meta.json.

    Raises:
        ValueError: names or shapes differ; all are named.
    """
    path = resolve(directory)
    meta = read_meta(path)
    load_state(model, read_weights(path, weights), set(meta.get("left_out", ())), str(path))
    return meta


def load_state(model: nn.Module, state: dict[str, Tensor], left_out: Set[str] = frozenset(), where: str = "the state",
               parts: Sequence[str] = ()) -> None:
    """Load a state dict strictly: nothing may be missing but what the model's checkpoints leave out or `left_out` names.

    Args:
        parts: modules to load, by name; what lies outside them stays as it is, on both sides. Empty = everything.

    Raises:
        ValueError: with all that does not fit.
    """
    def chosen(names: Iterable[str]) -> list[str]:
        return [name for name in names if not parts or name.startswith(tuple(f"{part}." for part in parts))]

    own = model.state_dict()
    for part in parts:
        lacking = [whose for whose, names in (("this model", own), (where, state))
                   if not any(name.startswith(f"{part}.") for name in names)]
        if lacking:
            there = ", ".join(dict(model.named_children()))
            raise ValueError(f"init_parts: {' and '.join(lacking)} has no weights of {part!r}; parts of this model: {there}")
    state = {name: state[name] for name in chosen(state)}
    missing = [name for name in chosen(checkpoint_state(model)) if name not in state and name not in left_out]
    unexpected = [name for name in state if name not in own]
    shapes = [f"{name} {list(state[name].shape)} there, {list(own[name].shape)} here"
              for name in state if name in own and state[name].shape != own[name].shape]
    problems = [f"{len(names)} {what}: {_few(names)}" for what, names in
                (("missing there", missing), ("unknown here", unexpected), ("of another shape", shapes)) if names]
    if problems:
        raise ValueError(f"the weights of {where} do not fit this model; {'; '.join(problems)}. Build the model from the checkpoint's "
                         "own config.yaml, or start without it")
    model.load_state_dict(state, strict=False)


def _few(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _replace(partial: Path, final: Path) -> None:
    old = final.with_name(f"{_OLD}{final.name}")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    partial.rename(final)
    _flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
