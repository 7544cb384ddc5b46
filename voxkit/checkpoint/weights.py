"""What a checkpoint holds, back into memory: weights that must fit the model, training state that is data and never code."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from voxkit.checkpoint.external import check_externals
from voxkit.checkpoint.folder import resolve
from voxkit.checkpoint.format import DamagedCheckpoint, checkpoint_state, read_meta
from voxkit.files import sha256


def read_weights(path: str | os.PathLike, weights: str = "model") -> dict[str, Tensor]:
    """The state dict of a checkpoint directory on CPU.

    Args:
        weights: "model", "average" (the running average), or "auto": whichever of the two its metrics were measured on.

    Raises:
        ValueError: no such weights; DamagedCheckpoint: they are not those that were written.
    """
    if weights not in ("auto", "model", "average"):
        raise ValueError(f"weights {weights!r} is none of auto, model, average")
    path = Path(path)
    meta = read_meta(path)
    if weights == "auto":
        weights = meta.get("validated", "model")
    file = path / f"{weights}.safetensors"
    if not file.is_file():
        raise ValueError(f"checkpoint {path} has no {file.name}" + (": no running average was kept" if weights == "average" else ""))
    advice = f"copy {file} again from where it is whole, or use another checkpoint of the run"
    written = meta.get("sha256", {}).get(file.name)
    if written is not None and sha256(file) != written:
        raise DamagedCheckpoint(f"{file} is damaged: its content is not what was written; {advice}")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpoint(f"{file} is damaged: {error}; {advice}") from error


def read_training(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state.json, tensors.pt) of a checkpoint that `damage` has looked into. The second is unpickled as tensors and plain values only.

    Raises:
        DamagedCheckpoint: they cannot be read. ValueError: tensors.pt holds something that could run code.
    """
    file = path / "training" / "tensors.pt"
    try:
        state = json.loads((path / "training" / "state.json").read_bytes())
        return state, torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(file):
            raise ValueError(f"{file} holds more than tensors and plain values, which could run code when it is read: it was not written "
                             "by voxkit. Delete the checkpoint, or start a new run from its weights (init=...)") from error
        raise DamagedCheckpoint(f"{file} is damaged: {_first_line(error)}") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"checkpoint {path} cannot be resumed: its training state is damaged: {_first_line(error)}") from error


def load_model_weights(model: nn.Module, directory: str | os.PathLike, weights: str = "auto") -> dict[str, Any]:
    """Load a checkpoint's weights into a model; every name must match, except those that the checkpoint references.

    Args:
        directory: a checkpoint, or a run (its best).
        weights: as in `read_weights`.

    Returns:
        The checkpoint's meta.json.

    Raises:
        ValueError: names or shapes differ (all are named), or the model has other external weights than the checkpoint was trained over.
    """
    path = resolve(directory)
    meta = read_meta(path)
    check_externals(model, meta, str(path))
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


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
