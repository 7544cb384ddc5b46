"""Smaller weights: what bears INT8 is quantized, what does not stays, and is told apart by measuring; what is stored is restored."""

import numpy as np
import pytest

from voxkit.export.quantize import KEEP_ABOVE, activation_errors, quantize_int8
from voxkit.export.shrink import gather_quantized, share_tables, store
from voxkit.runtime.session import open_session

onnx = pytest.importorskip("onnx", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")
WIDTH = 64


def make(nodes, inputs, outputs, constants):
    h = onnx.helper
    graph = h.make_graph(nodes, "g", inputs, outputs, [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()])
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def run(proto, feed, tmp_path, names=None):
    onnx.save(proto, tmp_path / "run.onnx")
    return open_session(tmp_path / "run.onnx", 1).run(names, feed)


def value(name, kind, shape):
    return onnx.helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def model():
    """audio → frames of 64 samples: through one matrix as they are, through another with their largest sample a thousand times as large."""
    h, random = onnx.helper, np.random.default_rng(0)
    constants = {"shape": np.array([1, -1, WIDTH]), "tame": random.standard_normal((WIDTH, 32)).astype(np.float32),
                 "wild": random.standard_normal((WIDTH, 32)).astype(np.float32), "loud": np.array(1000, np.float32),
                 "cube": random.standard_normal((1, 32, 32)).astype(np.float32)}
    nodes = [h.make_node("Reshape", ["audio", "shape"], ["x"]), h.make_node("MatMul", ["x", "tame"], ["a"], name="tame"),
             h.make_node("Abs", ["x"], ["size"]), h.make_node("ReduceMax", ["size"], ["top"], keepdims=1),
             h.make_node("Equal", ["size", "top"], ["is_top"]), h.make_node("Mul", ["x", "loud"], ["large"]),
             h.make_node("Where", ["is_top", "large", "x"], ["spiked"]), h.make_node("MatMul", ["spiked", "wild"], ["b"], name="wild"),
             h.make_node("Add", ["a", "b"], ["sum"]), h.make_node("MatMul", ["sum", "cube"], ["log_probs"], name="cube"),
             h.make_node("Identity", ["lengths"], ["frames"])]
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    return make(nodes, [value("audio", float32, ["batch", "samples"]), value("lengths", int64, ["batch"])],
                [value("log_probs", float32, None), value("frames", int64, None)], constants)


def test_spiked_activations_are_found_and_kept(model, tmp_path):
    audio = np.random.default_rng(1).standard_normal(WIDTH * 100).astype(np.float32)
    feed = {"audio": audio[None], "lengths": np.array([len(audio)])}
    errors = activation_errors(model, [feed])
    assert errors["tame"] < 0.03 < KEEP_ABOVE < errors["wild"] and "cube" not in errors  # of three dimensions: not for INT8
    quantized, kept = quantize_int8(model, [feed])
    assert list(kept) == ["wild"]
    exact, close = (run(p, feed, tmp_path, ["log_probs"])[0] for p in (model, quantized))
    coarse = run(quantize_int8(model)[0], feed, tmp_path, ["log_probs"])[0]
    assert np.abs(close - exact).mean() < 0.1 * np.abs(coarse - exact).mean() > 0


@pytest.mark.parametrize("bits, largest", [(8, 127), (7, 64)])
def test_bits_of_weights(tmp_path, bits, largest):
    """Products that all have one sign are what an x86 without VNNI cuts off at 16 bits: with 7 bits they fit."""
    random = np.random.default_rng(2)
    weight = (1 + 0.1 * random.random((WIDTH, 32))).astype(np.float32)
    proto = make([onnx.helper.make_node("MatMul", ["audio", "w"], ["y"], name="m")], [value("audio", 1, ["frames", WIDTH])],
                 [value("y", 1, None)], {"w": weight})
    quantized, _ = quantize_int8(proto, weight_bits=bits)
    found = [onnx.numpy_helper.to_array(i) for i in quantized.graph.initializer]
    (numbers,) = [w for w in found if w.dtype == np.int8 and w.ndim == 2]
    assert largest - 2 <= np.abs(numbers.astype(int)).max() <= largest
    audio = (1 + 0.1 * random.random((50, WIDTH))).astype(np.float32)
    if bits == 7:
        assert np.abs(run(quantized, {"audio": audio}, tmp_path)[0] / (audio @ weight) - 1).max() < 0.02


def test_products_with_bias_and_shared_activations(tmp_path):
    """Gemm, its matrix turned or not, and what it has in common with others; one that scales its product stays."""
    random, h = np.random.default_rng(5), onnx.helper
    constants = {"a": random.standard_normal((WIDTH, 32)).astype(np.float32), "b": random.standard_normal((32, WIDTH)).astype(np.float32),
                 "c": random.standard_normal((WIDTH, 32)).astype(np.float32), "bias": random.standard_normal(32).astype(np.float32)}
    nodes = [h.make_node("Gemm", ["x", "a", "bias"], ["p"], "plain"), h.make_node("Gemm", ["x", "b", "bias"], ["q"], "turned", transB=1),
             h.make_node("Gemm", ["x", "c"], ["r"], "scaled", alpha=0.5), h.make_node("MatMul", ["x", "a"], ["s"], "again"),
             h.make_node("Sum", ["p", "q", "r", "s"], ["y"])]
    proto = make(nodes, [value("x", 1, ["frames", WIDTH])], [value("y", 1, None)], constants)
    quantized, _ = quantize_int8(proto)
    kinds = [node.op_type for node in quantized.graph.node]
    assert kinds.count("MatMulInteger") == 3 and kinds.count("DynamicQuantizeLinear") == 1 and kinds.count("Gemm") == 1
    assert sum(i.name.endswith("_quantized") for i in quantized.graph.initializer) == 2
    feed = {"x": random.standard_normal((50, WIDTH)).astype(np.float32)}
    (exact,), (found,) = (run(p, feed, tmp_path) for p in (proto, quantized))
    assert np.abs(found - exact).mean() < 0.03 * np.abs(exact).mean()


def test_other_bits_are_refused(model):
    with pytest.raises(ValueError, match="7 or 8 bits, not 4"):
        quantize_int8(model, weight_bits=4)


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_convolutions_are_stored_small_and_come_back(kind, tmp_path):
    random = np.random.default_rng(3)
    sizes = np.geomspace(0.01, 10, 64)[:, None, None]
    constants = {"wide": (random.standard_normal((64, 64, 16)) * sizes).astype(np.float32),
                 "thin": random.standard_normal((64, 1, 31)).astype(np.float32), "bias": np.ones(64, np.float32),
                 "basis": random.standard_normal((64, 64, 1)).astype(np.float32)}
    h = onnx.helper
    proto = make([h.make_node("Conv", ["x", "basis"], ["a"]), h.make_node("Conv", ["a", "wide", "bias"], ["b"]),
                  h.make_node("Conv", ["b", "thin"], ["y"], group=64)], [value("x", 1, [1, 64, "t"])], [value("y", 1, None)], constants)
    feed = {"x": random.standard_normal((1, 64, 80)).astype(np.float32)}
    (exact,) = run(proto, feed, tmp_path)
    before = proto.ByteSize()
    store(proto, kind, exact={"basis"})
    kinds = {i.name: i.data_type for i in proto.graph.initializer}
    assert kinds["basis"] == kinds["bias"] == onnx.TensorProto.FLOAT and "thin.fp16" in kinds
    assert ("wide.int8" if kind == "int8" else "wide.fp16") in kinds
    assert proto.ByteSize() < (0.35 if kind == "int8" else 0.6) * before
    (found,) = run(proto, feed, tmp_path)
    rows = np.abs(found - exact).max((0, 2)) / np.abs(exact).max((0, 2))  # every channel has a scale of its own
    assert rows.max() < (0.02 if kind == "int8" else 2e-3)


def test_a_tied_embedding_is_stored_once(tmp_path):
    random = np.random.default_rng(4)
    table, h = random.standard_normal((300, 48)).astype(np.float32), onnx.helper
    nodes = [h.make_node("Gather", ["table", "tokens"], ["x"]), h.make_node("Tanh", ["x"], ["t"]),
             h.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]), h.make_node("MatMul", ["t", "turned"], ["y"], name="out")]
    proto = make(nodes, [value("tokens", onnx.TensorProto.INT64, ["b", "u"])], [value("y", 1, None)], {"table": table})
    feed = {"tokens": random.integers(0, 300, (3, 7))}
    (exact,) = run(proto, feed, tmp_path)
    assert share_tables(proto) == 1
    (weight,) = proto.graph.initializer
    assert list(weight.dims) == [48, 300]
    np.testing.assert_array_equal(run(proto, feed, tmp_path)[0], exact)
    quantized, _ = quantize_int8(proto)
    gather_quantized(quantized)
    assert sum(len(i.raw_data) for i in quantized.graph.initializer) < 0.3 * table.nbytes
    (found,) = run(quantized, feed, tmp_path)
    assert np.abs(found - exact).mean() < 0.05 * np.abs(exact).mean()
