"""A module as an ONNX file: which inputs and outputs it has, which of their dimensions are open, and what these are called."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from voxkit.files import writing
from voxkit.optional import require

OPSET = 18


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: in the graph.
        example: of an input, what it is traced with; an open dimension has another size there than every fixed or differently named one.
        axes: the name of each dimension that is open; None = fixed.
    """

    name: str
    example: Tensor | None = None
    axes: Sequence[str | None] = ()


@dataclass(frozen=True)
class Graph:
    """A file of an artifact, before it is one.

    Attributes:
        name: of the file, without .onnx.
        module: takes the inputs in order and gives a tuple of the outputs; without state of its own.
        inputs, outputs: see Port.
        ranges: name of an open dimension → its least and greatest size; those without an entry are free from 1 up. An open dimension of
            an output needs none.
    """

    name: str
    module: nn.Module
    inputs: list[Port]
    outputs: list[Port]
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def examples(self) -> tuple[Tensor, ...]:
        """What it is traced with."""
        return tuple(port.example for port in self.inputs if port.example is not None)

    @property
    def feed(self) -> dict[str, np.ndarray]:
        """The same by name, as onnxruntime takes it."""
        return {port.name: port.example.numpy() for port in self.inputs if port.example is not None}


def trace(graph: Graph, path: str | os.PathLike) -> None:
    """Write a graph as ONNX.

    Raises:
        MissingPackage: onnx or onnxscript is not installed.
        ValueError: the module does not export; the message says where.
    """
    require("onnx", "export", why="voxkit export")
    require("onnxscript", "export", why="voxkit export")
    names = {axis for port in graph.inputs for axis in port.axes if axis is not None}
    dims = {name: torch.export.Dim(name, min=graph.ranges.get(name, (1, None))[0], max=graph.ranges.get(name, (1, None))[1])
            for name in names}
    shapes = [{i: dims[axis] for i, axis in enumerate(port.axes) if axis is not None} for port in graph.inputs]
    with torch.no_grad(), _quiet():
        try:
            program = torch.export.export(graph.module, graph.examples, dynamic_shapes=_as_taken(graph.module, shapes),
                                          strict=False, prefer_deferred_runtime_asserts_over_guards=True)
            onnx_program = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, optimize=True,
                                             input_names=[p.name for p in graph.inputs], output_names=[p.name for p in graph.outputs])
        except Exception as error:  # torch.export raises its own kinds, by the dozen
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(f"{graph.name}: the model does not export to ONNX: {type(error).__name__}: {first}") from error
    assert onnx_program is not None  # torch gives none to the old exporter only
    proto = onnx_program.model_proto
    _strip(proto)
    _name_dimensions(proto, {port.name: port.axes for port in (*graph.inputs, *graph.outputs)})
    with writing(Path(path), "wb") as file:
        file.write(proto.SerializeToString())


def _as_taken(module: nn.Module, values: list[Any]) -> tuple[Any, ...]:
    """A value per input in the structure of the module's arguments: those of *args are one tuple."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    rest = kinds.index(inspect.Parameter.VAR_POSITIONAL) if inspect.Parameter.VAR_POSITIONAL in kinds else None
    return tuple(values) if rest is None else (*values[:rest], tuple(values[rest:]))


def _strip(proto: Any) -> None:
    """Take away where in the source each node came from: half of a small file, and paths of this machine."""
    for holder in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.graph.input,
                   *proto.graph.output, *proto.functions):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")


def _name_dimensions(proto: Any, axes: dict[str, Sequence[str | None]]) -> None:
    """Call the open dimensions of inputs and outputs by their names instead of by the tracer's symbols."""
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, axes[value.name]):
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
