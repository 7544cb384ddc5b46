"""INT8 weights for what is a matrix product; activations are quantized as they come (dynamic quantization).

One scale serves all frames of an activation. Where an encoder has a few dimensions a hundred times larger than the rest (Whisper's
upper layers; "massive activations", Sun et al. 2024, arXiv 2402.17762), that scale leaves the ordinary frames next to nothing, and
one such matrix spoils every text. They are found by measuring, and stay in float32.

Weights have 7 bits by default. An x86 CPU without VNNI (before AVX512-VNNI or AVX-VNNI) adds two products of 8-bit numbers in 16 bits, and
what does not fit is cut off; with 7 bits everything fits (2 · 255 · 64 < 2^15). onnxruntime calls it reduce_range:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from voxkit.optional import require

Feed = Mapping[str, np.ndarray]  # the inputs of one run, by name
KEEP_ABOVE = 0.1  # error of a frame, relative to its size, above which a matrix product stays in float32


def quantize_int8(model: Any, feeds: Sequence[Feed] = (), *, weight_bits: int = 7,
                  exact: Collection[str] = ()) -> tuple[Any, dict[str, float]]:
    """The constant matrices of a graph's MatMul and Gemm nodes as INT8, a scale per column.

    Only matrices are: of a constant with more dimensions onnxruntime would make zero points of another shape than its kernels take.
    Convolutions and products of two activations stay float32: they are small, or care about their range.

    Args:
        model: an onnx.ModelProto; left as it is.
        feeds: inputs to measure on; none = nothing is kept.
        weight_bits: 7, or 8 for machines that all have VNNI (or are no x86): a little finer.
        exact: names of constants that stay.

    Returns:
        The quantized onnx.ModelProto, and the nodes that stay in float32 because of their activations, with their error.

    Raises:
        MissingPackage: onnx or onnxruntime is not installed.
        ValueError: other bits.
    """
    if weight_bits not in (7, 8):
        raise ValueError(f"INT8 weights have 7 or 8 bits, not {weight_bits}")
    onnx = require("onnx", "export", why="quantization")
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    del quantized.graph.value_info[:]  # shapes in the tracer's symbols, which onnxruntime's own inference contradicts
    kept = {name: error for name, error in activation_errors(quantized, feeds, exact).items() if error > KEEP_ABOVE}
    graph = quantized.graph
    weights = {i.name: i for i in graph.initializer}
    rounded: set[str] = set()  # activations and weights that are there as integers
    for node in [n for n in _matrices(quantized, exact) if n.name not in kept]:
        name, flipped = node.input[1], _flipped(node)
        if _plain(node) is None:
            continue
        own = f"{name}_turned" if flipped else name
        if own not in rounded:
            rounded.add(own)
            graph.initializer.extend(_integers(onnx, own, onnx.numpy_helper.to_array(weights[name]).T if flipped
                                               else onnx.numpy_helper.to_array(weights[name]), 64 if weight_bits == 7 else 127))
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for made in reversed(_product(onnx, node, own, first=node.input[0] not in rounded)):
            graph.node.insert(place, made)
        rounded.add(node.input[0])
    used = {name for node in graph.node for name in node.input}
    for weight in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(weight)
    return quantized, kept


def _integers(onnx: Any, name: str, weight: np.ndarray, largest: int) -> list[Any]:
    """A matrix [D, E] as int8 with a scale per column; zero points, which onnxruntime's fused kernel wants, are all 0."""
    scale = np.maximum(np.abs(weight).max(0), 1e-12).astype(np.float32) / largest
    values = np.clip(np.round(weight / scale), -largest, largest).astype(np.int8)
    return [onnx.numpy_helper.from_array(np.ascontiguousarray(values), f"{name}_quantized"),
            onnx.numpy_helper.from_array(scale, f"{name}_scale"),
            onnx.numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero_point")]


def _product(onnx: Any, node: Any, weight: str, first: bool) -> list[Any]:
    """The nodes in the place of a product: what onnxruntime fuses to one kernel. The activation is made integers once for all products."""
    x, y, make = node.input[0], node.output[0], onnx.helper.make_node
    bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] else None
    out = f"{y}_product" if bias else y
    integers = [f"{x}_quantized", f"{x}_scale", f"{x}_zero_point"]
    made = [make("DynamicQuantizeLinear", [x], integers, f"{x}_quantize")] if first else []
    made += [make("MatMulInteger", [integers[0], f"{weight}_quantized", integers[2], f"{weight}_zero_point"], [f"{y}_integer"],
                  f"{node.name}_integer"),
             make("Cast", [f"{y}_integer"], [f"{y}_whole"], f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
             make("Mul", [integers[1], f"{weight}_scale"], [f"{y}_scales"], f"{node.name}_scales"),
             make("Mul", [f"{y}_whole", f"{y}_scales"], [out], f"{node.name}_scaled")]
    return [*made, make("Add", [out, bias], [y], f"{node.name}_bias")] if bias else made


def _plain(node: Any) -> Any:
    """A MatMul, or a Gemm that is no more than a product and a bias; None for others."""
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    given = {a.name: a.f if a.name in ("alpha", "beta") else a.i for a in node.attribute if a.name != "transB"}
    return node if all(usual.get(name) == value for name, value in given.items()) else None


def _flipped(node: Any) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def activation_errors(model: Any, feeds: Sequence[Feed], exact: Collection[str] = ()) -> dict[str, float]:
    """Node → what quantizing its activation does to its output: |error| / |output| of a frame, mean over all frames of the feeds.

    Args:
        model: an onnx.ModelProto.
    """
    onnx = require("onnx", "export")
    ort = require("onnxruntime", "export", why="quantization")
    weights = {i.name: i for i in model.graph.initializer}
    nodes = _matrices(model, exact)
    inputs = list(dict.fromkeys(n.input[0] for n in nodes))
    if not feeds or not nodes:
        return {}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    present = {value.name for value in probe.graph.output}
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inputs
                              if name not in present)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC  # fusions would take the inputs away
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    errors: dict[str, list[np.ndarray]] = {n.name: [] for n in nodes}
    for feed in feeds:
        values = dict(zip(inputs, session.run(inputs, dict(feed))))
        for node in nodes:
            weight = onnx.numpy_helper.to_array(weights[node.input[1]])
            errors[node.name].append(_frame_errors(values[node.input[0]], weight.T if _flipped(node) else weight))
    return {name: float(np.concatenate(parts).mean()) for name, parts in errors.items() if sum(map(len, parts))}


def _matrices(model: Any, exact: Collection[str]) -> list[Any]:
    """The MatMul and Gemm nodes whose second factor is a constant of two dimensions."""
    matrices = {i.name for i in model.graph.initializer if len(i.dims) == 2 and i.name not in exact}
    return [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in matrices]


def _frame_errors(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x [..., D] and weight [D, E] → [frames]: |(x' - x) weight| / |x weight|, x' as an 8-bit number per activation would have it."""
    x = x.reshape(-1, x.shape[-1])
    scale = (max(float(x.max()), 0.0) - min(float(x.min()), 0.0)) / 255 or 1.0
    rounding = np.round(x / scale) * scale - x
    return np.linalg.norm(rounding @ weight, axis=1) / np.maximum(np.linalg.norm(x @ weight, axis=1), 1e-9)
