"""Swoosh as a graph: the published formula over every activation there may be, without Softplus, which onnxruntime is slow at."""

import numpy as np
import pytest
import torch

from voxkit.nn.swoosh import swoosh, swoosh_exported, swoosh_reference

onnx = pytest.importorskip("onnx", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")


class _Swoosh(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return swoosh(x, self.kind)


@pytest.mark.parametrize("kind", ["L", "R"])
def test_through_onnxruntime(kind, tmp_path):
    from voxkit.export.trace import Graph, Port, trace
    from voxkit.runtime.session import open_session

    x = torch.linspace(-120, 120, 48001)[None]  # far beyond where exp overflows, and where σ is 0
    trace(Graph("swoosh", _Swoosh(kind), [Port("x", x, (None, "n"))], [Port("y", axes=(None, "n"))], {"n": (1, 10**6)}),
          tmp_path / "swoosh.onnx")
    assert "Softplus" not in {node.op_type for node in onnx.load(tmp_path / "swoosh.onnx").graph.node}
    (found,) = open_session(tmp_path / "swoosh.onnx", threads=1).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, swoosh_reference(x.double(), kind).numpy(), atol=1e-5)
    np.testing.assert_allclose(found, swoosh_exported(x, kind).numpy(), atol=1e-5)
