"""Fast weights: the fast operator against the plain loop, published outputs, streams, padding."""

from __future__ import annotations

import itertools

import pytest
import torch

from voxkit.ops.lact import FastOptions, FastWeights, Frames, lact_reference, start
from voxkit.ops.lact_fast import lact, lact_stream

CASES = [FastOptions(chunk=5), FastOptions(chunk=5, norm="pre", muon=True), FastOptions(chunk=4, order="update_apply", muon=True),
         FastOptions(chunk=4, order="bidirectional", norm="pre"), FastOptions(chunk=5, keys=8, order="update_apply")]


def made(length: int = 23, size: int = 3, dim: int = 6, hidden: int = 8, *, momentum: bool = True, holes: bool = True,
         keys: int | None = None, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[torch.Tensor, Frames, FastWeights]:
    """Queries, frames and a state of random numbers, for rates at which a chunk moves the weights by a fifth."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    count = length if keys is None else keys
    valid = torch.rand(size, count, generator=random) < 0.7 if holes else None
    gate = torch.rand(size, count, generator=random, dtype=torch.float64).to(dtype) if momentum else None
    frames = Frames(normal(size, count, dim), normal(size, count, dim), normal(size, count, 3).abs() * 0.05, gate, valid)
    weights = normal(size, hidden, dim), normal(size, dim, hidden), normal(size, hidden, dim)
    return normal(size, length, dim), frames, start(*(w / 2 for w in weights))


def close(a: FastWeights, b: FastWeights, tolerance: float = 1e-10) -> None:
    for name, x, y in zip(FastWeights._fields, a, b):
        torch.testing.assert_close(x, y, atol=tolerance, rtol=tolerance, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("square", [True, False])
def test_fast_is_plain(options: FastOptions, momentum: bool, square: bool):
    keys = -(-23 // options.chunk) * options.keys or None
    q, frames, state = made(momentum=momentum, keys=keys, hidden=6 if square else 8)
    size = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64) if options.muon else None
    with torch.no_grad():
        out, after = lact(q, frames, state, options, size)
    want, want_after = lact_reference(q, frames, state, options, size)
    torch.testing.assert_close(out, want, atol=1e-10, rtol=1e-10)
    close(after, want_after)
    moved = (after.w0 - state.w0).norm() / state.w0.norm()
    assert moved > 0.01, "a test of weights that do not move tests nothing"


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("momentum", [True, False])
def test_gradients_are_those_of_the_plain_loop(options: FastOptions, momentum: bool):
    keys = -(-13 // options.chunk) * options.keys or None
    q, frames, state = made(length=13, size=2, momentum=momentum, keys=keys)
    size = torch.tensor([0.5, 1.5], dtype=torch.float64) if options.muon else None
    gradients = []
    for function in (lact, lact_reference):
        leaves = [x.clone().requires_grad_() for x in (q, frames.k, frames.v, frames.rates, *state.weights)]
        gate = frames.gate.clone().requires_grad_() if momentum else None
        scale = size.clone().requires_grad_() if size is not None else None
        given = Frames(*leaves[1:4], gate, frames.valid)
        out, after = function(leaves[0], given, start(*leaves[4:]), options, scale)
        loss = (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum()
        loss = loss + sum((x * (i + 1)).sin().sum() for i, x in enumerate(after))
        gradients.append(torch.autograd.grad(loss, [x for x in (*leaves, gate, scale) if x is not None]))
    for fast, plain in zip(*gradients):
        torch.testing.assert_close(fast, plain, atol=1e-8, rtol=1e-8)
        assert plain.abs().max() > 0


@pytest.mark.parametrize("muon, momentum, name", itertools.product((False, True), (False, True), ("block_causal", "prenorm_block_causal")))
def test_published_outputs(shared_dir, muon: bool, momentum: bool, name: str):
    entry = torch.load(shared_dir / "golden" / "ops.pt", weights_only=True)[f"lact/{name}_lact_swiglu/muon={muon}/momentum={momentum}"]
    given = entry["inputs"]
    options = FastOptions(chunk=entry["chunk_size"], norm="pre" if name.startswith("prenorm") else "post", muon=muon)
    frames = Frames(given["k"], given["v"], torch.cat([given["lr0"], given["lr1"], given["lr2"]], -1),
                    entry["momentum"][..., 0] if momentum else None)
    want = entry["output"].detach()
    for function in (lact, lact_reference):
        with torch.no_grad():
            out, _ = function(given["q"], frames, start(given["w0"], given["w1"], given["w2"]), options)
        if muon:  # published in bfloat16
            assert (out - want).norm() / want.norm() < 5e-2
        else:
            torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 63, 64, 65])
@pytest.mark.parametrize("muon", [False, True])
def test_pieces_are_the_whole(piece: int, muon: bool):
    options = FastOptions(chunk=64, muon=muon)
    q, frames, state = made(length=200, dim=8, dtype=torch.float32, holes=False)
    frames = frames._replace(valid=torch.arange(200) < torch.tensor([[200], [130], [64]]))
    with torch.no_grad():
        whole, after = lact(q, frames, state, options)
        pieces, now, pending = [], state, None
        for begin in range(0, 200, piece):
            out, now, pending = lact_stream(q[:, begin:begin + piece], frames.slice(begin, begin + piece), now, pending, options,
                                            final=begin + piece >= 200)
            pieces.append(out)
    assert pending is None
    on = frames.valid
    torch.testing.assert_close(torch.cat(pieces, 1)[on], whole[on], atol=1e-5, rtol=1e-5)
    close(now, after, 1e-5)


def test_a_stream_may_end_with_nothing():
    q, frames, state = made(length=7, holes=False)
    whole, after = lact(q, frames, state, FastOptions(chunk=5))
    out, now, pending = lact_stream(q, frames, state, None, FastOptions(chunk=5))
    assert pending is not None and pending.k.shape[1] == 2
    none, now, pending = lact_stream(q[:, :0], frames.slice(0, 0), now, pending, FastOptions(chunk=5), final=True)
    assert none.shape[1] == 0 and pending is None
    torch.testing.assert_close(out, whole)
    close(now, after)


def test_update_apply_streams_in_whole_chunks_only():
    options = FastOptions(chunk=5, order="update_apply")
    q, frames, state = made(length=12, holes=False)
    whole, after = lact(q, frames, state, options)
    first, now, pending = lact_stream(q[:, :10], frames.slice(0, 10), state, None, options)
    last, now, pending = lact_stream(q[:, 10:], frames.slice(10, 12), now, pending, options, final=True)
    torch.testing.assert_close(torch.cat((first, last), 1), whole)
    close(now, after)
    with pytest.raises(ValueError, match="not whole chunks; use order apply_update"):
        lact_stream(q[:, :7], frames.slice(0, 7), state, None, options)


@pytest.mark.parametrize("options", [FastOptions(chunk=16), FastOptions(chunk=16, muon=True, norm="pre")], ids=str)
def test_batched_and_padded_is_alone(options: FastOptions):
    """What lies behind an utterance, in its last chunk and in chunks of nothing but padding, moves neither weights nor momentum."""
    lengths = [50, 33, 16]
    q, frames, state = made(length=150, dim=8, dtype=torch.float32, holes=False)
    frames = frames._replace(valid=torch.arange(150) < torch.tensor(lengths)[:, None])
    with torch.no_grad():
        out, after = lact(q, frames, state, options)
        for n, length in enumerate(lengths):
            one = Frames(*(None if x is None else x[n:n + 1, :length] for x in frames))._replace(valid=None)
            alone, alone_after = lact(q[n:n + 1, :length], one, FastWeights(*(x[n:n + 1] for x in state)), options)
            torch.testing.assert_close(out[n:n + 1, :length], alone, atol=1e-5, rtol=1e-5)
            close(FastWeights(*(x[n:n + 1] for x in after)), alone_after, 1e-5)


def test_a_chunk_without_valid_frames_leaves_the_state_as_it_is():
    q, frames, state = made(length=20, dtype=torch.float32)
    for options in (FastOptions(chunk=20), FastOptions(chunk=20, muon=True)):
        _, moving = lact(q, frames, state, options)
        _, after = lact(q, frames._replace(valid=torch.zeros_like(frames.valid)), moving, options)
        assert all(torch.equal(a, b) for a, b in zip(after, moving))
        assert moving.m0.abs().max() > 0


def test_the_momentum_gate_is_the_mean_over_valid_frames():
    q, frames, state = made(length=10)
    _, state = lact(q, frames, state, FastOptions(chunk=10))
    odd = frames._replace(gate=torch.where(frames.valid, frames.gate, torch.full_like(frames.gate, 0.9)))
    even = frames._replace(gate=((frames.gate * frames.valid).sum(1) / frames.valid.sum(1))[:, None].expand(-1, 10))
    close(lact(q, odd, state, FastOptions(chunk=10))[1], lact(q, even, state, FastOptions(chunk=10))[1])


def test_muon_steps_by_the_valid_share_and_the_size():
    """Without momentum and before normalization, a step's length is proportional to share × size."""
    q, frames, state = made(length=64, momentum=False, holes=False)
    options = FastOptions(chunk=64, muon=True, norm="pre")
    few = frames._replace(valid=torch.arange(64).expand(3, -1) < 6)
    only = Frames(frames.k[:, :6], frames.v[:, :6], frames.rates[:, :6])
    share = (lact(q, few, state, options)[1].w0 - state.w0).norm()
    whole = (lact(q[:, :6], only, state, FastOptions(chunk=6, muon=True, norm="pre"))[1].w0 - state.w0).norm()
    torch.testing.assert_close(share / whole, torch.tensor(6 / 64, dtype=torch.float64))
    twice = (lact(q, few, state, options, torch.full((3,), 2.0, dtype=torch.float64))[1].w0 - state.w0).norm()
    torch.testing.assert_close(twice, 2 * share)


def test_rows_keep_their_length():
    q, frames, state = made(length=40, holes=False)
    _, after = lact(q, frames, state, FastOptions(chunk=8))
    for w, n in zip(after.weights, after[6:]):
        torch.testing.assert_close(w.norm(dim=2, keepdim=True), n, rtol=1e-4, atol=0)


def test_half_precision_inputs_meet_weights_in_float32():
    q, frames, state = made(length=20, dtype=torch.float32, holes=False)
    low = Frames(*(None if x is None else x.bfloat16() for x in frames))
    out, after = lact(q.bfloat16(), low, state, FastOptions(chunk=8))
    assert out.dtype == torch.bfloat16 and all(x.dtype == torch.float32 for x in after)
    want, _ = lact(q, frames, state, FastOptions(chunk=8))
    assert (out - want).norm() / want.norm() < 0.05


def test_what_does_not_fit_is_refused():
    q, frames, state = made()
    with pytest.raises(ValueError, match="rates has shape"):
        lact(q, frames._replace(rates=frames.rates[..., :2]), state, FastOptions(chunk=5))
    with pytest.raises(ValueError, match="22 queries and 23 keys"):
        lact(q[:, :22], frames, state, FastOptions(chunk=5))
    with pytest.raises(ValueError, match="order: 'both' is none of"):
        FastOptions(order="both")
    with pytest.raises(ValueError, match="chunk: 5 and keys: 4"):
        FastOptions(chunk=5, keys=4)


def test_who_does_not_carry_on_may_spare_the_last_step():
    q, frames, state = made(length=23)
    options = FastOptions(chunk=5)
    out, after = lact(q, frames, state, options)
    same, before = lact(q, frames, state, options, learn_last=False)
    torch.testing.assert_close(same, out)
    close(before, lact(q[:, :20], frames.slice(0, 20), state, options)[1])
    assert not torch.equal(before.w0, after.w0)
