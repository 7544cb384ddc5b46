"""An artifact made by hand, in a moment: a random projection of features to tokens, and a memory of the chunks before where it streams."""

import json

import numpy as np

from voxkit.runtime.fbank import Fbank
from voxkit.text.sentencepiece import train_characters

TEXTS = ["heal me now", "push the left lane"]
CHUNK, BINS, MEMORY = 32, 40, 8


def make_artifact(folder, streaming, texts=TEXTS):
    """The directory. What it says is random, and depends on every sample, and with `streaming` on all chunks before in the utterance."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    vocabulary = train_characters(texts, folder / "tokens")
    vocabulary.save(folder / "tokenizer.model")
    generator = np.random.default_rng(0)
    constants = {"weight": generator.standard_normal((BINS, vocabulary.size)),
                 "write": 0.1 * generator.standard_normal((BINS, MEMORY)),
                 "usual": Fbank(BINS)(wave(99, 5.0)).mean(0), "read": generator.standard_normal((MEMORY, vocabulary.size)),
                 "half": np.array([0.5])}
    initial = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    initial += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in
                {"from": [0], "to": [2**31], "axis": [1], "step": [4], "three": [3], "four": [4]}.items()]
    node = helper.make_node
    nodes = [node("Slice", ["features", "from", "to", "axis", "step"], ["fourth"]), node("Sub", ["fourth", "usual"], ["rows"]),
             node("MatMul", ["rows", "weight"], ["seen"]),
             node("Add", ["lengths", "three"], ["more"]), node("Div", ["more", "four"], ["frames"])]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", CHUNK if streaming else "time", BINS]),
              helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"])]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["batch", "out", vocabulary.size]),
               helper.make_tensor_value_info("frames", TensorProto.INT64, ["batch"])]
    if streaming:
        nodes += [node("MatMul", ["rows", "write"], ["written"]), node("ReduceMean", ["written", "axis"], ["mean"], keepdims=0),
                  node("Mul", ["memory", "half"], ["faded"]), node("Add", ["faded", "mean"], ["next.memory"]),
                  node("MatMul", ["memory", "read"], ["known"]), node("Unsqueeze", ["known", "axis"], ["wide"]),
                  node("Add", ["seen", "wide"], ["scores"])]
        inputs.append(helper.make_tensor_value_info("memory", TensorProto.FLOAT, ["batch", MEMORY]))
        outputs.append(helper.make_tensor_value_info("next.memory", TensorProto.FLOAT, ["batch", MEMORY]))
    else:
        nodes += [node("Identity", ["seen"], ["scores"]), node("Identity", ["seen"], ["states"])]
        outputs.append(helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", "out", vocabulary.size]))
    nodes.append(node("LogSoftmax", ["scores"], ["log_probs"], axis=-1))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initial)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / "encoder.onnx")
    meta = {"format": 2, "system": "voxformer", "input": "features", "heads": ["ctc"], "graphs": {"encoder": "encoder.onnx"},
            "vocab_size": vocabulary.size, "seconds_per_frame": 0.04, "least_input": 1, "longest_input": 6000,
            "fbank": {"num_bins": BINS, "low_freq": 20.0, "high_freq": -400.0}}
    if streaming:
        meta["streaming"] = {"chunk_ms": 320.0, "left_ms": 320.0, "features": CHUNK, "hop": CHUNK, "states": 1, "state_bytes": 4 * MEMORY}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def wave(seed=0, seconds=1.0, rate=16000):
    """Tones of random frequencies in noise, [S] float32: not every frame is alike, and no other seed's."""
    generator = np.random.default_rng(seed)
    samples, each = round(seconds * rate), rate // 6
    frequency = np.repeat(generator.uniform(150, 3500, samples // each + 1), each)[:samples]
    tone = np.sin(2 * np.pi * np.cumsum(frequency) / rate)
    return (0.3 * tone + 0.02 * generator.standard_normal(samples)).astype(np.float32)


def pcm(audio):
    """[S] float32 → 16-bit little-endian bytes."""
    return (np.clip(audio, -1, 1) * 32767).round().astype("<i2").tobytes()


def heard(data):
    """The float samples that a server makes of 16-bit bytes."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
