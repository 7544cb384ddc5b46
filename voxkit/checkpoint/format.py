"""A checkpoint: a directory that describes itself, written so that a kill at any moment leaves whole ones only.

    checkpoints/step-00001200/   config.yaml  tokenizer.model   plain data, resolved; the vocabulary
                                 model.safetensors              weights; frozen external ones are referenced, not copied
                                 average.safetensors            their running average, where one is kept
                                 meta.json                      step, epoch, metrics, git hash, references to external weights,
                                                                size and hash of every file
                                 training/                      state.json and tensors.pt: what a resumed run needs
    checkpoints/latest, best     text files with the name of a directory

A directory is filled under a temporary name, flushed to the disk and renamed. Only the last few keep `training/`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from voxkit.checkpoint.external import left_out, references
from voxkit.files import sha256, write_text

log = logging.getLogger("voxkit.train")

TEMPORARY, OLD, TRASH = ".tmp-", ".old-", ".trash-"


class DamagedCheckpoint(ValueError):
    """A checkpoint whose files are not what its meta.json says."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose files are there and have their sizes (`damage` with `content` looks into them)."""

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
    """What a checkpoint holds of a model: all of `state_dict()` but the external weights that stay as they came."""
    frozen = left_out(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def write_checkpoint(root: Path, model: nn.Module, meta: dict[str, Any], *, training: tuple[dict[str, Any], Any] | None = None,
                     average: dict[str, Tensor] | None = None, save_extra: Callable[[Path], None] | None = None,
                     name: str = "") -> Checkpoint:
    """Write `root/step-…` and the pointer `latest`; a directory of that name is replaced.

    Args:
        root: the run's checkpoints directory.
        meta: goes into meta.json; must have "step".
        training: (plain values for state.json; tensors and plain values for tensors.pt).
        average: a running average of the weights.
        save_extra: writes config.yaml, tokenizer.model and the like into the directory it is given.
        name: of the directory; by default from the step. `latest` is then left alone.

    Raises:
        ValueError: it cannot be written (the disk is full).
    """
    final = root / (name or f"step-{int(meta['step']):08d}")
    meta = {**meta, "left_out": sorted(left_out(model)), "externals": references(model)}
    written = write_state(final, checkpoint_state(model), meta, training=training, average=average, save_extra=save_extra)
    if not name:
        set_pointer(root, "latest", final.name)
    return written


def write_state(final: Path, state: dict[str, Tensor], meta: dict[str, Any], *, training: tuple[dict[str, Any], Any] | None = None,
                average: dict[str, Tensor] | None = None, save_extra: Callable[[Path], None] | None = None) -> Checkpoint:
    """The same from a state dict, to any directory."""
    with _filling(final) as partial:
        save_weights(state, partial / "model.safetensors")
        if average is not None:
            save_weights(average, partial / "average.safetensors")
        if save_extra is not None:
            save_extra(partial)
        if training is not None:
            (partial / "training").mkdir()
            _write_json(partial / "training" / "state.json", training[0])
            _save_tensors(training[1], partial / "training" / "tensors.pt")
        meta = _seal(partial, meta, {})
    return Checkpoint(final, meta)


def amend_checkpoint(path: Path, meta: dict[str, Any], training: dict[str, Any]) -> Checkpoint:
    """Replace what a checkpoint says of itself (metrics) and its state.json; its other files stay, and are not copied.

    Args:
        meta: laid over its meta.json.

    Raises:
        ValueError: it cannot be written.
    """
    before = read_meta(path)
    hashes = {name: value for name, value in before.get("sha256", {}).items() if name != "training/state.json"}
    with _filling(path) as partial:
        for file in (p for p in path.rglob("*") if p.is_file()):
            name = file.relative_to(path)
            if name.as_posix() not in ("meta.json", "training/state.json"):
                (partial / name).parent.mkdir(exist_ok=True)
                _link(file, partial / name)
        (partial / "training").mkdir(exist_ok=True)
        _write_json(partial / "training" / "state.json", training)
        meta = _seal(partial, {**before, **meta}, hashes)
    return Checkpoint(path, meta)


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


def damage(path: Path, training: bool = False, content: bool = False) -> str:
    """What is wrong with a checkpoint directory; empty for a whole one.

    Args:
        training: look at the training state too.
        content: read every file and compare its hash, not its size alone.
    """
    try:
        meta = read_meta(path)
    except FileNotFoundError:
        return "it has no meta.json"
    except ValueError as error:
        return str(error)
    files, hashes = meta["files"], meta.get("sha256", {})
    if training and "training/tensors.pt" not in files:
        return "it was written without training state"
    for name, size in files.items():
        if name.startswith("training/") and not training:
            continue
        file = path / name
        other = "; if it is another model's, put back the one of the run" if name == "tokenizer.model" else ""
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} of {size} bytes{other}"
        if content and name in hashes and sha256(file) != hashes[name]:
            return f"{name} has the right size and other content than was written{other}"
    return ""


def read_meta(path: Path) -> dict[str, Any]:
    """A checkpoint's meta.json.

    Raises:
        DamagedCheckpoint: it is none. FileNotFoundError: there is none.
    """
    file = Path(path) / "meta.json"
    try:
        meta = json.loads(file.read_bytes())
        int(meta["step"]), dict(meta["files"])
        outside = [name for name in meta["files"] if not inside(name)]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{file} cannot be read ({error or type(error).__name__})") from error
    if outside:
        raise DamagedCheckpoint(f"{file} names files outside the checkpoint ({', '.join(outside)}): it was not written by voxkit")
    return meta


def inside(name: str) -> bool:
    """Whether a file's name, as meta.json and a mirror's mark have it, is one below the directory it is relative to."""
    parts = name.split("/")
    return bool(name) and not {"", ".", ".."} & set(parts) and "\\" not in name and "\0" not in name and ":" not in parts[0]


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
    wrong = "no name of a checkpoint" if "/" in name or "\0" in name or not name or not path.is_dir() else damage(path)
    if wrong:
        log.warning("ignoring %s, which says %r: %s", file, name[:60], wrong)
        return None
    return path


@contextlib.contextmanager
def _filling(final: Path) -> Iterator[Path]:
    """A temporary directory that takes the place of `final` at the end.

    Raises:
        ValueError: what was to go into it cannot be written; `final` is as it was.
    """
    partial = final.with_name(f"{TEMPORARY}{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in (*partial.rglob("*"), partial):
            _flush(path)
        _replace(partial, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ValueError(f"the checkpoint {final} cannot be written: {error}. Free space on its disk ({_free(final)} are free) or keep "
                         "fewer (train.keep_last, train.keep_best); the same command then goes on from the last checkpoint") from error


def _seal(partial: Path, meta: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Write meta.json with size and hash of every file; `known` hashes are not computed again."""
    files = {p.relative_to(partial).as_posix(): p for p in sorted(partial.rglob("*")) if p.is_file()}
    meta = {**meta, "files": {name: p.stat().st_size for name, p in files.items()},
            "sha256": {name: known.get(name) or sha256(p) for name, p in files.items()}}
    (partial / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    return meta


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _save_tensors(value: Any, path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(value, file)
        except RuntimeError as error:  # how torch's writer tells of a full disk
            raise OSError(str(error).splitlines()[0]) from error


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _free(path: Path) -> str:
    folder = next(parent for parent in path.resolve().parents if parent.is_dir())
    return f"{shutil.disk_usage(folder).free / 2**30:.2f} GiB"


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
