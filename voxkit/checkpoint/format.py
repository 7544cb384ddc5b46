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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from voxkit.files import write_text

log = logging.getLogger("voxkit.train")

TEMPORARY, OLD, TRASH = ".tmp-", ".old-", ".trash-"


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
    partial = final.with_name(f"{TEMPORARY}{final.name}")
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


def read_meta(path: Path) -> dict[str, Any]:
    """A checkpoint's meta.json."""
    return json.loads((Path(path) / "meta.json").read_text(encoding="utf-8"))


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


def _replace(partial: Path, final: Path) -> None:
    old = final.with_name(f"{OLD}{final.name}")
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
