"""An offline VoxFormer as one graph: audio → CTC log-probabilities, front end and all, batch and time left open."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.batch import Batch, Padded
from voxkit.encoders.pretrained import pretrained_encoder
from voxkit.optional import require

OPSET = 18
MIN_SAMPLES = 16000  # the graph's least width; shorter audio is padded up to it, and `lengths` says where it ends
MAX_SECONDS = 60.0  # of encoders that set no limit of their own; attention grows with the square
_HOP = 320  # samples per frame of every front end's output


class CtcGraph(nn.Module):
    """audio [B, S] float32 at 16 kHz, lengths [B] int64 → log_probs [B, T', V], lengths [B] int64 in frames.

    The model is put into eval mode, where balancers, whiteners, masks and dropout do nothing, and into float32: a frozen
    encoder that trained under autocast to bfloat16 is exported, and compared, in full precision.
    """

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.float().eval()
        pretrained = pretrained_encoder(model)
        if pretrained is not None:
            pretrained.config.dtype = "float32"

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states, frames = self.model.encode(Batch(ids=[""], audio=Padded(audio, lengths)))[:2]
        return self.model.ctc_log_probs(states), frames


def max_samples(model: nn.Module) -> int:
    """The longest utterance the graph takes: Whisper's 30 s, else MAX_SECONDS."""
    pretrained = pretrained_encoder(model)
    positions = getattr(pretrained.backbone.config, "max_source_positions", None) if pretrained is not None else None
    return int(MAX_SECONDS * 16000) if positions is None else positions * _HOP


def export_onnx(model: nn.Module, path: str | os.PathLike) -> CtcGraph:
    """Write an offline CTC model as ONNX and return what was traced, which answers as the graph must.

    Args:
        model: with a front end that takes audio, `encode(batch)` and `ctc_log_probs(states)`, on the CPU. Left in eval mode, float32.
        path: of the .onnx file.

    Raises:
        MissingPackage: onnx or onnxscript is not installed.
        ValueError: the model does not export; the message says where.
    """
    require("onnx", "export", why="voxkit export")
    require("onnxscript", "export", why="voxkit export")
    graph = CtcGraph(model)
    longest = max_samples(model)
    positions = getattr(model.encoder, "positions", None)
    if positions is not None:
        positions(longest // _HOP + 1)  # fills its table: a graph cannot let it grow
    shapes = {"audio": {0: torch.export.Dim("batch", min=1, max=1024), 1: torch.export.Dim("samples", min=MIN_SAMPLES, max=longest)}}
    shapes["lengths"] = {0: shapes["audio"][0]}
    example = (0.1 * torch.randn(2, 3 * MIN_SAMPLES + 77), torch.tensor([3 * MIN_SAMPLES + 77, 2 * MIN_SAMPLES]))
    with torch.no_grad(), _quiet():
        try:
            program = torch.export.export(graph, example, dynamic_shapes=shapes, strict=False,
                                          prefer_deferred_runtime_asserts_over_guards=True)
            onnx_program = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, optimize=True,
                                             input_names=["audio", "lengths"], output_names=["log_probs", "frames"])
        except Exception as error:  # torch.export raises its own kinds, by the dozen
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(f"the model does not export to ONNX: {type(error).__name__}: {first}") from error
    assert onnx_program is not None  # torch gives none to the old exporter only
    proto = onnx_program.model_proto
    _name_dimensions(proto)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    return graph


def _name_dimensions(proto: Any) -> None:
    """Call the open dimensions of inputs and outputs by name instead of by the tracer's symbols."""
    names = {"audio": ("batch", "samples"), "lengths": ("batch",), "log_probs": ("batch", "frames", None), "frames": ("batch",)}
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names[value.name]):
            if name is not None:
                dimension.dim_param = name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's lines about packages that do not matter here."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    others = [registration, logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")]
    levels = [logger.level for logger in others]
    for logger in others:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(others, levels):
            logger.setLevel(level)
