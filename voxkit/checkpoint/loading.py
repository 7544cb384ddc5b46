"""From a checkpoint directory back to a model, its vocabulary and its configuration: use never repeats an architecture flag."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from voxkit import config as configuration
from voxkit.checkpoint.folder import resolve
from voxkit.checkpoint.format import read_meta
from voxkit.checkpoint.runs import find_run_dir
from voxkit.checkpoint.weights import load_model_weights
from voxkit.hub import looking_from

Build = Callable[[DictConfig, Path], tuple[nn.Module, Any, Any]]


@dataclass
class Loaded:
    """A checkpoint in memory: model in eval mode on its device, vocabulary, checked configuration, and meta.json."""

    model: nn.Module
    vocabulary: Any
    setup: Any
    meta: dict[str, Any]
    path: Path


def find_checkpoint(path: str | os.PathLike) -> Path:
    """The checkpoint that a path means: a checkpoint; a run, of it the average of the best, else the best; or `exp/stage1`, the newest
    run `exp/<date_time>_stage1`.

    Raises:
        ValueError: nothing there; the message says what is.
    """
    path = find_run_dir(path)
    averaged = path / "checkpoints" / "averaged"
    return resolve(averaged if averaged.is_dir() else path)


def decode_dir(checkpoint: Path) -> Path:
    """Where a run keeps what was decoded, tuned and calibrated, from the path of one of its checkpoints."""
    return checkpoint.parent.parent / "decode"


def load_built(path: str | os.PathLike, build: Build, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> Loaded:
    """Build and fill the model of a checkpoint (or of a run's best one). Its config.yaml is plain data and reaches for nothing else.

    Args:
        build: (its config.yaml with the overrides, its directory) → (an empty model, vocabulary, checked configuration). A checkpoint
            knows no system; who calls does.
        overrides: `a.b=c` laid over its config.yaml, for what may change between training and use (a pretrained encoder's folder).

    Raises:
        ValueError: no checkpoint, weights that do not fit, external weights or a vocabulary that are not those of training.
    """
    path = find_checkpoint(path)
    noted = {known["name"]: known["folder"] for known in read_meta(path).get("externals", {}).values()}
    with looking_from(path.resolve().parents, noted):
        model, vocabulary, setup = build(configuration.load_plain(path / "config.yaml", overrides), path)
    meta = load_model_weights(model, path)
    own = vocabulary.fingerprint()
    if meta.get("tokenizer", own) != own:
        raise ValueError(f"{path}: its tokenizer.model ({own}) is not the one it was trained with ({meta['tokenizer']}): "
                         "its outputs would mean other pieces; put back the tokenizer of the run")
    return Loaded(model.to(device).eval(), vocabulary, setup, meta, path)
