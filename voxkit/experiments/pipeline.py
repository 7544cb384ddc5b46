"""Recognition as conf/inference.yaml sets it up, for commands and services: artifacts without torch, checkpoints with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from voxkit.runtime.pipeline import Pipeline, PipelineConfig, SearchConfig, load_pipeline
from voxkit.runtime.second_pass import SecondPass


def open_pipeline(config: str | os.PathLike | Mapping[str, Any] | PipelineConfig) -> Pipeline:
    """`voxkit.runtime.pipeline.load_pipeline`, whose second pass may be a checkpoint too, a Whisper among them.

    Raises:
        ValueError: as there; a second pass that is no checkpoint either. MissingPackage: a checkpoint, and no torch.
    """
    return load_pipeline(config, _checkpoint)


def _checkpoint(path: str, search: SearchConfig, config: PipelineConfig) -> SecondPass:
    from voxkit.optional import require

    require("torch", why=f"second: {path}, which is no artifact")
    from voxkit.infer.second_pass import open_checkpoint

    return open_checkpoint(path, search, config)
