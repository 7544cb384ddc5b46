"""The graphs of every front end and head give the model's values (Whisper's are in test_package.py)."""

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.batch import Batch, Padded
from voxkit.export.encoder import offline_graph
from voxkit.export.graphs import prepared
from voxkit.export.parallel import cif_dense, parallel_graphs
from voxkit.export.trace import Graph, Port, trace
from voxkit.models.paraformer import Paraformer, ParaformerConfig
from voxkit.ops.cif import cif, fire_counts
from voxkit.runtime.session import open_session

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.mark.parametrize("kind", ["fbank", pytest.param("wavlm-base", marks=pytest.mark.slow),
                                  pytest.param("hubert-large", marks=pytest.mark.slow)])
def test_encoders(kind, tmp_path):
    model = prepared(loaded(tmp_path, kind).model)
    graph = offline_graph(model)
    trace(graph, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", threads=1)
    for audios in (waves(1.0), waves(3.1, 1.7, 0.9)):
        values = Padded.of([torch.from_numpy(a) for a in audios])
        if kind == "fbank":
            values = Padded(*model.front_end.fbank(values.values, values.lengths))
        with torch.inference_mode():
            _, expected, frames = graph.module(values.values, values.lengths)
        feed = {graph.inputs[0].name: values.values.numpy(), "lengths": values.lengths.numpy()}
        scores, count = session.run(["log_probs", "frames"], feed)
        assert count.tolist() == frames.tolist()
        for one, other, n in zip(scores, expected.numpy(), count):
            np.testing.assert_allclose(one[:n], other[:n], rtol=1e-3, atol=2e-2)  # the head is twenty times too large


def test_paraformer(tmp_path):
    torch.manual_seed(0)
    config = ParaformerConfig(vocab_size=50, encoder={"kind": "conformer", "dim": 32, "heads": 4, "ffn": 48, "layers": 1, "kernel": 5})
    config.front_end.kind, config.front_end.subsampling_dim = "stacked", 32
    config.decoder.dim, config.decoder.heads, config.decoder.ffn, config.decoder.layers = 32, 4, 48, 1
    model = prepared(Paraformer(config))
    sessions = {}
    for graph in [offline_graph(model), *parallel_graphs(model)]:
        trace(graph, tmp_path / f"{graph.name}.onnx")
        sessions[graph.name] = open_session(tmp_path / f"{graph.name}.onnx", threads=1)
    generator = torch.Generator().manual_seed(1)
    for sizes in ([333, 200], [64], [500, 12, 77]):
        values = Padded.of([torch.randn(n, 80, generator=generator) for n in sizes])
        with torch.inference_mode():
            states, frames = model.encode(Batch([""] * len(sizes), features=values))[:2]
            guess = model.predict(states, frames)
        found, count = sessions["encoder"].run(["states", "frames"], {"features": values.values.numpy(), "lengths": values.lengths.numpy()})
        assert count.tolist() == frames.tolist()
        vectors, counts, times, weights = sessions["predictor"].run(None, {"states": found, "frames": count})
        most = int(counts.max())
        assert counts.tolist() == guess.lengths.tolist()
        np.testing.assert_allclose(times[:, :most], guess.times, atol=1e-3)
        np.testing.assert_allclose(weights[:, :guess.weights.shape[1]], guess.weights, atol=1e-5)
        feed = {"vectors": vectors[:, :most], "counts": counts, "states": found, "frames": count}
        (scores,) = sessions["parallel"].run(None, feed)
        for one, other, n in zip(scores, guess.log_probs.numpy(), counts):
            np.testing.assert_allclose(one[:n], other[:n], atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_dense_cif_is_cif(seed):
    generator = torch.Generator().manual_seed(seed)
    frames, lengths = torch.randn(4, 40, 6, generator=generator), torch.tensor([40, 33, 7, 1])
    weights = torch.rand(4, 40, generator=generator) ** (1 + seed) * 0.999
    weights = weights.masked_fill(torch.arange(40) >= lengths[:, None], 0.0)
    counts = fire_counts(weights, 0.5)
    expected = cif(frames, weights, counts)
    vectors, found, times = cif_dense(frames, weights, 0.5)
    most = int(counts.max())
    assert found.tolist() == counts.tolist()
    filled = expected.vectors / expected.mass.clamp(min=1e-3)[..., None]
    torch.testing.assert_close(vectors[:, :most], filled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(times[:, :most], expected.times, atol=1e-3, rtol=1e-4)


class _Double(torch.nn.Module):
    def forward(self, first, *rest):
        return (2 * first, *(2 * r for r in rest))


def test_names_of_dimensions_and_no_paths(tmp_path):
    onnx = pytest.importorskip("onnx")
    ports = [Port("a", torch.ones(3, 4), ("batch", None)), Port("b", torch.ones(3, 5), ("batch", "width"))]
    trace(Graph("double", _Double(), ports, [Port("x", axes=("batch", None)), Port("y", axes=("batch", "width"))]), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    dims = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*proto.graph.input, *proto.graph.output)}
    assert dims == {"a": ["batch", 4], "b": ["batch", "width"], "x": ["batch", 4], "y": ["batch", "width"]}
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    (x, y) = open_session(tmp_path / "m.onnx", 1).run(None, {"a": np.ones((7, 4), np.float32), "b": np.ones((7, 9), np.float32)})
    assert x.shape == (7, 4) and y.shape == (7, 9) and x[0, 0] == y[0, 0] == 2


def test_what_does_not_export_says_where():
    class Sorted(torch.nn.Module):
        def forward(self, x):
            return (x[: int(x.sum())],)

    with pytest.raises(ValueError, match="odd: the model does not export to ONNX"):
        trace(Graph("odd", Sorted(), [Port("x", torch.ones(5), ("n",))], [Port("y", axes=("n",))]), "unused.onnx")
