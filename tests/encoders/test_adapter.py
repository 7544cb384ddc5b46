"""The bottleneck behind the layer mix."""

from __future__ import annotations

import torch

from voxkit.encoders.adapter import Adapter


def test_shape_parameters_and_order():
    adapter = Adapter(768, 512, 512, dropout=0.1)
    assert sum(p.numel() for p in adapter.parameters()) == 2 * 768 + 768 * 512 + 512 + 512 * 512 + 512
    assert [type(m).__name__ for m in adapter] == ["LayerNorm", "Linear", "GELU", "Dropout", "Linear"]
    x = torch.randn(2, 5, 768)
    assert adapter(x).shape == (2, 5, 512)
    adapter.eval()
    torch.testing.assert_close(adapter(x)[1:, :3], adapter(x[1:, :3]), atol=1e-5, rtol=1e-5)


def test_dropout_only_in_training():
    adapter = Adapter(8, 8, 8, dropout=0.5)
    x = torch.randn(1, 4, 8)
    assert not torch.equal(adapter(x), adapter(x))
    adapter.eval()
    assert torch.equal(adapter(x), adapter(x))
