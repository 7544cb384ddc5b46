"""Weights of a checkpoint back into a model; nothing may be missing or strange but what is left out on purpose."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from voxkit.checkpoint.folder import resolve
from voxkit.checkpoint.format import checkpoint_state, read_meta


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
