"""Zipformer: published sizes, padding, training, checkpointing, front end."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.encoders.zipformers import small
from voxkit.encoders.zipformer import PRESETS, ConvSubsampling, Zipformer, from_preset, set_batch_count
from voxkit.encoders.zipformer.stack import Downsample, upsample
from voxkit.nn.balance import Balancer, Whiten


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("preset", "expected"), [("S", 22118279), ("M", 64250603), ("L", 147010094)])
def test_published_sizes(preset, expected):
    config = from_preset(preset)
    with torch.device("meta"):
        parts = [ConvSubsampling(80, config.input_dim), Zipformer(config), nn.Linear(config.output_dim, 500)]
    assert sum(p.numel() for part in parts for p in part.parameters()) == expected


def test_other_presets_have_their_size_and_rates():
    with torch.device("meta"):
        plan, mini = Zipformer(from_preset("plan")), Zipformer(from_preset("mini"))
    assert 27e6 < sum(p.numel() for p in plan.parameters()) < 29e6
    assert [50 / stack.factor for stack in plan.stacks] == [50, 50, 25, 25, 12.5, 12.5] and plan.input_dim == plan.output_dim == 512
    assert 4e6 < sum(p.numel() for p in mini.parameters()) < 8e6 and mini.downsampling == 2
    assert from_preset("toy", input_dim=80).input_dim == 80
    with pytest.raises(ValueError, match="none of plan, S, M, L"):
        from_preset("XL")
    with pytest.raises(ValueError, match="no option encoder_dims; it has input_dim"):
        from_preset("S", encoder_dims=[3])
    assert all(not from_preset(name).problems() for name in PRESETS)


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_heads": [1, 2]}, "num_heads: 2 entries for 4 stacks"), ({"kernel": [8]}, "kernel: 8 of stack 0 is even"),
    ({"unmasked_dim": [20]}, "unmasked_dim: 20 of stack 0"), ({"chunk_size": [16]}, "chunks need causal: true"),
    ({"causal": True, "chunk_size": [6]}, "6 is no multiple of 4"), ({"output_downsampling": 3}, "neither 1 nor 2"),
    ({"dropout": 1.0}, "dropout: 1.0 is not in")])
def test_problems_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize("changes", [{}, {"output_downsampling": 1}, {"causal": True},
                                     {"causal": True, "chunk_size": [8], "left_context": [16]}, {"downsampling_factor": [2, 4, 8, 1]}])
def test_padding_never_matters(changes):
    net, lengths = small(**changes), torch.tensor([37, 30, 21, 3, 1])
    x = torch.randn(5, 37, 16) * 3
    with torch.no_grad():
        together, out_lengths = net(x, lengths)
        x[2, 21:] = 1e4
        again, _ = net(x, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone, alone_length = net(x[i:i + 1, :length], lengths[i:i + 1])
            assert alone_length == out_lengths[i] == alone.shape[1]
            for batch in (together, again):
                torch.testing.assert_close(batch[i:i + 1, :alone.shape[1]], alone, rtol=1e-4, atol=1e-5)


def test_padding_gets_no_gradient():
    net, lengths, x = small(), torch.tensor([20, 13]), torch.randn(2, 20, 16, requires_grad=True)
    y, out = net(x, lengths)
    (y[0].sum() + y[1, :out[1]].sum()).backward()
    assert x.grad[1, 13:].abs().max() == 0 and x.grad[1, :13].abs().min() > 0


@pytest.mark.parametrize("dim", [10, 16, 20])
def test_input_of_another_width(dim):
    net, x, lengths = small(dim), torch.randn(2, 9, dim), torch.tensor([9, 8])
    y, _ = net(x, lengths)
    assert y.shape == (2, 5, 32)
    with pytest.raises(ValueError, match=f"width {dim}"):
        net(torch.randn(2, 9, dim + 1), lengths)


@pytest.mark.parametrize("causal", [{}, {"causal": True, "chunk_size": [4, 8, -1], "left_context": [8, -1]}])
@pytest.mark.parametrize("bf16", [False, True])
def test_trains(causal, bf16):
    """All random mechanisms at once: gradients are finite and reach everything but the parameter that is unused by design."""
    net = small(**causal).train()
    seen, optimizer = set(), torch.optim.Adam(net.parameters(), 3e-3)
    x, lengths, target = torch.randn(4, 21, 16), torch.tensor([21, 20, 15, 6]), torch.randn(4, 11, 32)
    losses = []
    for step in range(12):
        set_batch_count(net, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y, out = net(x, lengths)
        loss = sum((y[i, :n].float() - target[i, :n]).square().mean() for i, n in enumerate(out.tolist()))
        optimizer.zero_grad()
        loss.backward()
        for name, p in net.named_parameters():
            assert p.grad is None or p.grad.isfinite().all(), name
            if p.grad is not None and p.grad.abs().max() > 0:
                seen.add(name)
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < losses[0]
    assert {name for name, _ in net.named_parameters()} - seen == {n for n, _ in net.named_parameters() if n.endswith("unused_scale")}


def test_regularizers_leave_the_forward_pass_alone():
    net, x, lengths = small().train(), torch.randn(2, 12, 16), torch.tensor([12, 9])
    set_batch_count(net, 0)
    def run(active):
        for module in net.modules():
            if isinstance(module, (Balancer, Whiten)):
                module.training = active
                module.prob = 0.999999  # one random number each, in both
        return net.eval()(x, lengths)[0]
    torch.testing.assert_close(run(True), run(False))
    assert not any(isinstance(m, (Balancer, Whiten)) and m.training for m in net.modules())


@pytest.mark.parametrize("changes", [{}, {"causal": True, "chunk_size": [8], "left_context": [16]}])
def test_checkpointing_changes_nothing(changes):
    plain = small(**changes).train()
    recomputing = copy.deepcopy(plain)
    for stack in recomputing.stacks:
        stack.checkpointing = True
    x, lengths = torch.randn(3, 16, 16), torch.tensor([16, 13, 9])
    grads = []
    for net in (plain, recomputing):
        set_batch_count(net, 100)
        torch.manual_seed(3)
        net(x, lengths)[0].square().mean().backward()
        grads.append([p.grad for p in net.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) and all(torch.equal(a, b) for a, b in zip(*grads))


def test_state_dict_is_strict_but_forgives_missing_whitening_rates():
    net, other = small(), small()
    for module in net.modules():
        if isinstance(module, Whiten):
            module.prob = module.min_prob
    other.load_state_dict(net.state_dict())
    assert all(m.prob == m.min_prob for m in other.modules() if isinstance(m, Whiten))
    other.load_state_dict(dict(net.named_parameters()))
    with pytest.raises(RuntimeError, match="norm.bias"):
        other.load_state_dict({n: p for n, p in net.named_parameters() if not n.endswith("norm.bias")})


@pytest.mark.parametrize("factor", [2, 3])
def test_downsampling_repeats_the_last_valid_frame(factor):
    down = Downsample(factor)
    nn.init.normal_(down.bias)
    x, lengths = torch.randn(3, 7, 4), torch.tensor([7, 5, 1])
    y = down(x, lengths)
    for i, n in enumerate(lengths.tolist()):
        alone = down(x[i:i + 1, :n])
        torch.testing.assert_close(y[i:i + 1, :alone.shape[1]], alone)
    assert torch.equal(upsample(y, factor, 7)[:, :factor], y[:, :1].expand(-1, factor, -1))


def test_front_end_ignores_padding():
    front, lengths = ConvSubsampling(80, 24).eval(), torch.tensor([60, 41, 10])
    x = torch.randn(3, 60, 80)
    with torch.no_grad():
        y, out = front(x, lengths)
        assert y.shape == (3, 26, 24) and out.tolist() == [26, 17, 1]
        for i, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(y[i:i + 1, :out[i]], front(x[i:i + 1, :n], lengths[i:i + 1])[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="at least 9 feature frames"):
        front(x[:, :8], lengths)
    with pytest.raises(ValueError, match="at least 7 mel bins"):
        ConvSubsampling(6, 24)


def test_front_end_trains():
    front = ConvSubsampling(20, 16).train()
    for step in range(4):
        set_batch_count(front, step)
        y, _ = front(torch.randn(2, 30, 20), torch.tensor([30, 22]))
        y.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in front.parameters())
