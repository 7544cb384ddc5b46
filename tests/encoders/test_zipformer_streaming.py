"""Zipformer chunk by chunk equals Zipformer on the whole, masked; exported with its state."""

from __future__ import annotations

import pytest
import torch

from tests.encoders.zipformers import small
from voxkit.encoders.zipformer import ConvSubsampling

CHUNKS = {"causal": True, "chunk_size": [8, 16, -1], "left_context": [16, 32, -1]}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def stream(net, x, chunk):
    state, parts = net.init_state(x.shape[0]), []
    for part in x.split(chunk, dim=1):
        y, state = net.stream(part, state)
        parts.append(y)
    return torch.cat(parts, dim=1), state


@pytest.mark.parametrize(("chunk", "left"), [(8, 16), (8, 8), (16, 40), (4, 64)])
@pytest.mark.parametrize("size", [8, 33, 64])
def test_streamed_equals_masked(chunk, left, size):
    net = small(**CHUNKS)
    net.set_chunk(chunk, left)
    x = torch.randn(2, size, 16)
    with torch.no_grad():
        offline, _ = net(x, torch.tensor([size, size]))
        streamed, state = stream(net, x, chunk)
    torch.testing.assert_close(streamed, offline, rtol=1e-4, atol=1e-5)
    assert all(torch.is_tensor(s) and s.shape[0] == 2 for s in state) and state[0].tolist() == [size, size]
    assert len(state) == 1 + 6 * 5


def test_a_chunk_sees_nothing_later_and_nothing_too_early():
    net, x = small(**CHUNKS, downsampling_factor=[1, 2, 2, 1]), torch.randn(1, 64, 16)
    net.set_chunk(8, 8)
    with torch.no_grad():
        before, _ = net(x, torch.tensor([64]))
        x[:, 40:] += 1
        after, _ = net(x, torch.tensor([64]))
    assert torch.equal(before[:, :20], after[:, :20]) and not torch.equal(before[:, 20:24], after[:, 20:24])


def test_sessions_of_one_batch_may_be_at_different_places():
    net, x = small(**CHUNKS), torch.randn(1, 40, 16)
    net.set_chunk(8, 16)
    with torch.no_grad():
        whole, _ = stream(net, x, 8)
        fresh, late = net.init_state(1), net.init_state(1)
        for i in range(3):
            _, late = net.stream(x[:, 8 * i:8 * i + 8], late)
        both, _ = net.stream(torch.cat((x[:, :8], x[:, 24:32])), [torch.cat(pair) for pair in zip(fresh, late)])
    torch.testing.assert_close(both, torch.cat((whole[:, :4], whole[:, 12:16])), rtol=1e-4, atol=1e-5)


def test_training_draws_chunks_and_evaluation_does_not():
    net, x, lengths = small(**CHUNKS), torch.randn(1, 32, 16), torch.tensor([32])
    drawn = {net.train()._chunks() for _ in range(60)}
    assert drawn == {(8, 2), (8, 4), (8, -1), (16, 1), (16, 2), (16, -1), (-1, -1)}
    net.eval()
    assert net._chunks() == (8, 2) and torch.equal(net(x, lengths)[0], net(x, lengths)[0])


def test_refusals():
    with pytest.raises(ValueError, match="causal: true"):
        small().init_state()
    with pytest.raises(ValueError, match="chunks need causal"):
        small().set_chunk(8)
    net = small(**CHUNKS)
    with pytest.raises(ValueError, match="no multiple of 4"):
        net.set_chunk(6, 12)
    net.set_chunk(8, -1)
    with pytest.raises(ValueError, match="bounded chunk and left context"):
        net.init_state()
    net.set_chunk(8, 8)
    with pytest.raises(ValueError, match="at most one chunk"):
        net.stream(torch.randn(1, 9, 16), net.init_state())


@pytest.mark.parametrize("size", [45, 77, 120])
def test_front_end_in_chunks_is_the_whole(size):
    front, x = ConvSubsampling(20, 16).eval(), torch.randn(2, size, 20)
    with torch.no_grad():
        whole, lengths = front(x, torch.tensor([size, size]))
        state, parts, at = front.init_state(2), [], 0
        while at + 16 + front.lookahead <= size:
            y, state = front.stream(x[:, at:at + 16 + front.lookahead], state)
            assert y.shape[1] == 8
            parts.append(y)
            at += 16
        parts.append(front.stream(x[:, at:], state, final=True)[0])
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    assert whole.shape[1] == lengths[0]


@pytest.mark.slow
def test_exports_with_state_as_tensors():
    """torch.export sees a chunk and its state, and the program gives the same."""
    net = small(**CHUNKS)
    net.set_chunk(8, 16)

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, state):
            return self.net.stream(x, state)

    x, state = torch.randn(1, 8, 16), net.init_state(1)
    with torch.no_grad():
        program = torch.export.export(Step().eval(), (x, state)).module()
        for _ in range(3):
            expected, after = net.stream(x, state)
            y, state = program(x, state)
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
            for a, b in zip(state, after):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            x = torch.randn(1, 8, 16)


@pytest.mark.slow
def test_exports_offline_with_any_length():
    net = small()
    time = torch.export.Dim("time", min=8, max=1000)
    with torch.no_grad():
        program = torch.export.export(net, (torch.randn(2, 24, 16), torch.tensor([24, 17])),
                                      dynamic_shapes=({1: time}, None),
                                      prefer_deferred_runtime_asserts_over_guards=True).module()
        for size in (20, 37):
            x, lengths = torch.randn(2, size, 16), torch.tensor([size, 9])
            expected, out = net(x, lengths)
            y, program_out = program(x, lengths)
            assert program_out.tolist() == out.tolist()
            torch.testing.assert_close(y[0], expected[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(y[1, :out[1]], expected[1, :out[1]], rtol=1e-4, atol=1e-5)
