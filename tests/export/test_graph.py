"""The graph of every front end gives the model's scores (Whisper's, at its own rate, is in test_package.py)."""

import numpy as np
import pytest
import torch

from tests.export.tiny import loaded, waves
from voxkit.export.graph import export_onnx
from voxkit.runtime.onnx import open_session

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


@pytest.mark.parametrize(("kind", "pool_after"), [
    ("fbank", None), pytest.param("whisper", 2, marks=pytest.mark.slow), pytest.param("wavlm-base", None, marks=pytest.mark.slow),
    pytest.param("wavlm-base", 1, marks=pytest.mark.slow), pytest.param("hubert-large", None, marks=pytest.mark.slow)])
def test_scores(kind, pool_after, tmp_path):
    graph = export_onnx(loaded(tmp_path, kind, pool_after).model, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", threads=1)
    for audios in (waves(1.0), waves(3.1, 1.7, 0.9)):
        lengths = torch.tensor([len(a) for a in audios])
        audio = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in audios], batch_first=True)
        with torch.inference_mode():
            expected, frames = graph(audio, lengths)
        scores, count = session.run(None, {"audio": audio.numpy(), "lengths": lengths.numpy()})
        assert count.tolist() == frames.tolist()
        for one, other, n in zip(scores, expected.numpy(), count):
            np.testing.assert_allclose(one[:n], other[:n], rtol=1e-3, atol=2e-2)  # the head is twenty times too large


def test_dimensions_have_names(tmp_path):
    onnx = pytest.importorskip("onnx")
    from voxkit.export.graph import _name_dimensions

    value = onnx.helper.make_tensor_value_info
    proto = onnx.helper.make_model(onnx.helper.make_graph(
        [], "g", [value("audio", 1, ["s2", "s96"]), value("lengths", 7, ["s2"])],
        [value("log_probs", 1, ["s2", "(s96 + 1)//2", 60]), value("frames", 7, ["s2"])]))
    _name_dimensions(proto)
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*proto.graph.input, *proto.graph.output)]
    assert dims == [["batch", "samples"], ["batch"], ["batch", "frames", 60], ["batch"]]
