"""Loading a checkpoint of any system in the table (voxkit.models)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from voxkit.checkpoint.loading import Loaded, load_built
from voxkit.run_config import Setup, make_setup
from voxkit.text.vocabulary import Vocabulary


def load_checkpoint(path: str | os.PathLike, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> Loaded:
    """`voxkit.checkpoint.loading.load_built` with the systems there are: arguments and errors as there."""
    return load_built(path, _build, device, overrides)


def _build(node: DictConfig, path: Path) -> tuple[nn.Module, Vocabulary, Setup]:
    setup = make_setup(node, str(path / "config.yaml"))
    vocabulary = setup.system.vocabulary(path)
    return setup.build_model(vocabulary), vocabulary, setup
