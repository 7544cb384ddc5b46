"""Weights that take less room in a file and are what they were when it is loaded: fp16, or int8 with a scale per output channel.

A stored weight is followed by Cast (and Mul by its scales), which onnxruntime computes once, when it opens the file. The arithmetic of the
graph is not touched; `voxkit.export.quantize` does that.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from voxkit.optional import require

_SMALL = 1024  # numbers; what is smaller stays as it is
_COARSE = 65536  # from here on a convolution is stored in int8; smaller kernels, the depthwise ones, in fp16


def share_tables(model: Any) -> int:
    """Let an embedding that is the output layer's matrix too be stored once, as that matrix; it is gathered from the columns.

    The exporter stores it as the embedding and transposes it in the graph, where no quantization finds it.

    Args:
        model: an onnx.ModelProto; changed.

    Returns:
        How many tables went.
    """
    onnx = require("onnx", "export")
    graph = model.graph
    weights = {i.name: i for i in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights and len(weights[n.input[0]].dims) == 2]:
        turned = onnx.numpy_helper.to_array(weights[node.input[0]]).T.copy()
        weights[node.output[0]] = onnx.numpy_helper.from_array(turned, node.output[0])
        graph.initializer.append(weights[node.output[0]])
        graph.node.remove(node)
    matrices = [n.input[1] for n in graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    shared = 0
    for node in [n for n in graph.node if n.op_type == "Gather" and n.input[0] in weights and len(weights[n.input[0]].dims) == 2]:
        table = weights[node.input[0]]
        for name in matrices:
            if list(weights[name].dims) == list(table.dims)[::-1] and weights[name].data_type == table.data_type and np.array_equal(
                    onnx.numpy_helper.to_array(weights[name]).T, onnx.numpy_helper.to_array(table)):
                if _gather_columns(onnx, graph, node, name):
                    shared += 1
                break
    _drop_unused(graph)
    return shared


def store(model: Any, kind: str, exact: Collection[str] = ()) -> None:
    """Store the constants of a graph in fewer bits.

    Args:
        model: an onnx.ModelProto; changed. Of constants that stand for the same numbers in several places one is kept.
        kind: `fp16`: all of them that are not small; `int8`: large convolutions, embeddings and matrices that are still float, the rest in
            fp16.
        exact: names of those that keep their precision (window and filterbank: what is left of their precision is the noise floor).
    """
    onnx = require("onnx", "export")
    graph = model.graph
    users: dict[str, list[tuple[str, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            users.setdefault(name, []).append((node.op_type, place))
    made: list[Any] = []
    for weight in list(graph.initializer):
        if weight.data_type != onnx.TensorProto.FLOAT or int(np.prod(weight.dims)) < _SMALL or weight.name in exact:
            continue
        values = onnx.numpy_helper.to_array(weight)
        axis = _channels(users.get(weight.name, []), values) if kind == "int8" else None
        graph.initializer.remove(weight)
        made += _half(onnx, graph, weight.name, values) if axis is None else _bytes(onnx, graph, weight.name, values, axis)
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _channels(users: list[tuple[str, int]], values: np.ndarray) -> int | None:
    """The axis of the output channels of a weight that bears int8; None = it does not."""
    if not users or values.ndim < 2:
        return None
    if values.ndim > 2:  # kernels, also those whose norm is a weight of its own (WavLM's positions)
        return 0 if values.size >= _COARSE else None
    if values.ndim == 2 and all(use in (("MatMul", 1), ("Gemm", 1)) for use in users):
        return 1
    return 0 if values.ndim == 2 and all(use == ("Gather", 0) for use in users) else None


def _half(onnx: Any, graph: Any, name: str, values: np.ndarray) -> list[Any]:
    if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
        graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        return []
    graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
    return [onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], f"{name}.load", to=onnx.TensorProto.FLOAT)]


def _bytes(onnx: Any, graph: Any, name: str, values: np.ndarray, axis: int) -> list[Any]:
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(others, keepdims=True), 1e-12).astype(np.float32) / 127
    graph.initializer.append(onnx.numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}.int8"))
    graph.initializer.append(onnx.numpy_helper.from_array(scale, f"{name}.scale"))
    return [onnx.helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], f"{name}.cast", to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name], f"{name}.load")]


def gather_quantized(model: Any) -> None:
    """Let embeddings that `share_tables` reads from a matrix be read from its int8 form, where `quantize_int8` made one; changed in place.

    A few columns of the int8 matrix are gathered and scaled at a time, so that the float matrix is needed no more.
    """
    onnx = require("onnx", "export")
    graph = model.graph
    names = {i.name for i in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Gather" and f"{n.input[0]}_quantized" in names]:
        weight, output = node.input[0], node.output[0]
        nodes = [onnx.helper.make_node("Gather", [f"{weight}_quantized", node.input[1]], [f"{output}.int8"], axis=1),
                 onnx.helper.make_node("Cast", [f"{output}.int8"], [f"{output}.whole"], to=onnx.TensorProto.FLOAT),
                 onnx.helper.make_node("Gather", [f"{weight}_scale", node.input[1]], [f"{output}.scale"], axis=0),
                 onnx.helper.make_node("Mul", [f"{output}.whole", f"{output}.scale"], [output])]
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for i, made in enumerate(nodes):
            graph.node.insert(place + i, made)
    _drop_unused(graph)


def _gather_columns(onnx: Any, graph: Any, node: Any, matrix: str) -> bool:
    """Gather [V, D] at rows → Gather [D, V] at columns, then the width last."""
    if any(a.name == "axis" and a.i != 0 for a in node.attribute):
        return False
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.input) if v.type.tensor_type.HasField("shape")}
    rank = ranks.get(node.input[1])
    if rank is None:
        return False
    output = node.output[0]
    turned = onnx.helper.make_node("Transpose", [f"{output}.columns"], [output], perm=[*range(1, rank + 1), 0])
    gather = onnx.helper.make_node("Gather", [matrix, node.input[1]], [f"{output}.columns"], axis=1)
    place = list(graph.node).index(node)
    graph.node.remove(node)
    graph.node.insert(place, gather)
    graph.node.insert(place + 1, turned)
    return True


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for weight in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(weight)
