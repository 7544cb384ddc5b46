"""The fast attention against the formula, forward and gradient."""

import pytest
import torch

from voxkit.nn.attention import MultiHeadAttention, attention_reference
from voxkit.nn.positions import sinusoids


def test_fast_equals_reference_with_gradients():
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4, memory_dim=12).double()
    x, memory = torch.randn(2, 5, 16).double(), torch.randn(2, 7, 12).double()
    mask = torch.rand(2, 1, 5, 7) > 0.3
    mask[..., 0] = True
    out = {}
    for slow in (False, True):
        layer.zero_grad()
        y, weights = layer(x, *layer.keys_values(memory), mask, need_weights=slow)
        y.square().sum().backward()
        out[slow] = (y, layer.query.weight.grad.clone(), layer.value.weight.grad.clone())
    assert weights.sum(-1).allclose(torch.ones_like(weights.sum(-1)))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(out[False], out[True]))


def test_a_query_that_may_look_nowhere_gets_nothing():
    q = torch.randn(1, 1, 2, 4)
    _, weights = attention_reference(q, q, q, torch.tensor([[[[True, True], [False, False]]]]))
    assert weights[0, 0, 1].eq(0).all() and weights[0, 0, 0].sum().isclose(torch.tensor(1.0))


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="10.*4 heads"):
        MultiHeadAttention(10, 4)


def test_sinusoids_as_in_the_paper():
    table = sinusoids(50, 8)
    assert table.shape == (50, 8)
    angle = torch.tensor(7 / 10000 ** (2 / 8))
    assert table[7, 2].isclose(angle.sin()) and table[7, 3].isclose(angle.cos())
