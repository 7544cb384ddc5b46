"""Window attention in blocks, and as a stream, against full attention under a mask."""

from __future__ import annotations

import pytest
import torch

from voxkit.nn.window import WindowAttention, window_attention, window_reference


@pytest.mark.parametrize("left, right, size", [(8, 0, 50), (20, 0, 50), (8, 8, 50), (3, 30, 50), (0, 0, 5), (16, 4, 3)])
@pytest.mark.parametrize("lengths", [None, [50, 1, 17]])
def test_blocks_are_the_masked_whole(left: int, right: int, size: int, lengths: list[int] | None):
    random = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, 2, size, 4, generator=random, dtype=torch.float64, requires_grad=True) for _ in range(3))
    bias = torch.randn(2, left + 1 + right, generator=random, dtype=torch.float64, requires_grad=True)
    given = None if lengths is None else torch.tensor(lengths).clamp(max=size)
    out, want = (f(q, k, v, bias, left, given) for f in (window_attention, window_reference))
    on = torch.ones(3, size, dtype=torch.bool) if given is None else torch.arange(size) < given[:, None]
    on = on[:, None, :, None].expand_as(out)
    torch.testing.assert_close(out[on], want[on], atol=1e-10, rtol=1e-10)
    for a, b in zip(*(torch.autograd.grad(x[on].square().sum(), (q, k, v, bias)) for x in (out, want))):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("piece", [1, 7, 63, 64, 65])
def test_a_stream_gives_the_same(piece: int):
    torch.manual_seed(0)
    attention = WindowAttention(heads=2, left=12)
    torch.nn.init.normal_(attention.bias)
    q, k, v = (torch.randn(2, 150, 8) for _ in range(3))
    state, pieces = attention.init_state(k), []
    for begin in range(0, 150, piece):
        out, state = attention.stream(*(x[:, begin:begin + piece] for x in (q, k, v)), state)
        pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, 1), attention(q, k, v), atol=1e-5, rtol=1e-5)
    assert state[0].shape[1] == 12


def test_looking_ahead_does_not_stream():
    attention = WindowAttention(heads=1, left=2, right=1)
    x = torch.zeros(1, 3, 4)
    with pytest.raises(ValueError, match="looks 1 frames ahead"):
        attention.stream(x, x, x, attention.init_state(x))
