"""INT8: what bears it is quantised, what does not stays, and is told apart by measuring."""

import numpy as np
import pytest

from voxkit.export.quantise import KEEP_ABOVE, activation_errors, quantise_int8
from voxkit.runtime.onnx import open_session

onnx = pytest.importorskip("onnx", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")
WIDTH = 64


@pytest.fixture
def model(tmp_path):
    """audio → frames of 64 samples: through one matrix as they are, through another with their largest sample a thousand times as large."""
    h, random = onnx.helper, np.random.default_rng(0)
    constants = {"shape": np.array([1, -1, WIDTH]), "tame": random.standard_normal((WIDTH, 32)).astype(np.float32),
                 "wild": random.standard_normal((WIDTH, 32)).astype(np.float32), "loud": np.array(1000, np.float32)}
    nodes = [h.make_node("Reshape", ["audio", "shape"], ["x"]), h.make_node("MatMul", ["x", "tame"], ["a"], name="tame"),
             h.make_node("Abs", ["x"], ["size"]), h.make_node("ReduceMax", ["size"], ["top"], keepdims=1),
             h.make_node("Equal", ["size", "top"], ["is_top"]), h.make_node("Mul", ["x", "loud"], ["large"]),
             h.make_node("Where", ["is_top", "large", "x"], ["spiked"]), h.make_node("MatMul", ["spiked", "wild"], ["b"], name="wild"),
             h.make_node("Add", ["a", "b"], ["log_probs"]), h.make_node("Identity", ["lengths"], ["frames"])]
    value, float32, int64 = h.make_tensor_value_info, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    graph = h.make_graph(nodes, "g", [value("audio", float32, ["batch", "samples"]), value("lengths", int64, ["batch"])],
                         [value("log_probs", float32, None), value("frames", int64, None)],
                         [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()])
    proto = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "model.onnx")
    return proto, tmp_path / "model.onnx"


def test_spiked_activations_are_found_and_kept(model, tmp_path):
    proto, path = model
    audio = np.random.default_rng(1).standard_normal(WIDTH * 100).astype(np.float32)
    errors = activation_errors(proto, [audio])
    assert errors["tame"] < 0.03 < KEEP_ABOVE < errors["wild"]
    kept = quantise_int8(path, tmp_path / "int8.onnx", [audio])
    assert list(kept) == ["wild"]
    feed = {"audio": audio[None], "lengths": np.array([len(audio)])}
    exact, close = (open_session(p, 1).run(["log_probs"], feed)[0] for p in (path, tmp_path / "int8.onnx"))
    quantise_int8(path, tmp_path / "all.onnx")
    coarse = open_session(tmp_path / "all.onnx", 1).run(["log_probs"], feed)[0]
    assert np.abs(close - exact).mean() < 0.2 < np.abs(coarse - exact).mean()


@pytest.mark.parametrize("bits, largest", [(8, 127), (7, 64)])
def test_bits_of_weights(tmp_path, bits, largest):
    """Products that all have one sign are what an x86 without VNNI cuts off at 16 bits: with 7 bits they fit."""
    h, random = onnx.helper, np.random.default_rng(2)
    weight = (1 + 0.1 * random.random((WIDTH, 32))).astype(np.float32)
    value, float32 = h.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = h.make_graph([h.make_node("MatMul", ["audio", "w"], ["y"], name="m")], "g", [value("audio", float32, ["frames", WIDTH])],
                         [value("y", float32, None)], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx")
    quantise_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", weight_bits=bits)
    found = [onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "int8.onnx").graph.initializer]
    (quantised,) = [w for w in found if w.dtype == np.int8 and w.ndim == 2]
    assert largest - 2 <= np.abs(quantised.astype(int)).max() <= largest
    audio = (1 + 0.1 * random.random((50, WIDTH))).astype(np.float32)
    if bits == 7:
        y = open_session(tmp_path / "int8.onnx", 1).run(["y"], {"audio": audio})[0]
        assert np.abs(y / (audio @ weight) - 1).max() < 0.02


def test_other_bits_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="7 or 8 bits, not 4"):
        quantise_int8(model[1], tmp_path / "int8.onnx", weight_bits=4)
