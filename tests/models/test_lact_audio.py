"""The generator of codes: depth transformer against its loop, no future, pieces = whole, baselines as large as it, state truncated."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import voxkit
from voxkit.batch import Batch, Padded
from voxkit.config import ConfigError, OmegaConf, structure
from voxkit.decoders.depth import DepthConfig, DepthTransformer
from voxkit.encoders.lact import LaCTConfig
from voxkit.models.lact_audio import BaselineAudioTransformer, LaCTAudioConfig, LaCTAudioGenerator, build, count
from voxkit.nn.lact import FastConfig
from voxkit.system import TokenIds

DEPTH = DepthConfig(dim=16, heads=2, ffn=16, layers=2)


def config(**more) -> LaCTAudioConfig:
    lact = LaCTConfig(dim=32, heads=2, ffn=48, layers=2, dropout=0.0, left=8, fast=FastConfig(heads=2, chunk=8, gate=0.5))
    return LaCTAudioConfig(**{"vocab_size": 12, "codebooks": 3, "lact": lact, "depth": DEPTH, "segment": 16, **more})


def generator(**more) -> LaCTAudioGenerator:
    torch.manual_seed(0)
    return LaCTAudioGenerator(config(**more)).eval()


def codes(*lengths: int, seed: int = 0) -> Padded:
    draw = torch.Generator().manual_seed(seed)
    return Padded.of([torch.randint(12, (n, 3), generator=draw) for n in lengths])


def test_depth_transformer_is_its_loop():
    """All books of all frames at once are what one gets book by book, forward and gradient."""
    torch.manual_seed(0)
    depth, states, said = DepthTransformer(DEPTH, 8, 4, 10), torch.randn(5, 8, requires_grad=True), torch.randint(10, (5, 4))
    weight = torch.randn(5, 4, 10)
    whole = depth(states, said)
    rows = []
    for n in range(5):  # frame by frame: nothing passes between frames
        state, given = depth.init_state(states[n:n + 1]), states[n:n + 1]
        books = []
        for q in range(4):
            logits, state = depth.step(q, given, state)
            books.append(logits)
            given = said[n:n + 1, q]
        rows.append(torch.cat(books))
    loop = torch.stack(rows)
    torch.testing.assert_close(whole, loop)
    parameters = [states, *depth.parameters()]
    for a, b in zip(torch.autograd.grad((whole * weight).sum(), parameters), torch.autograd.grad((loop * weight).sum(), parameters)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["lact", "full", "window"])
def test_frames_in_any_pieces_are_the_whole(backbone):
    model, said = generator(backbone=backbone), codes(50).values
    with torch.no_grad():
        whole, _ = model.advance(said, model.init_state(1))
        for size in (1, 7, 16):
            state, parts = model.init_state(1), []
            for piece in said.split(size, 1):
                logits, state = model.advance(piece, state)
                parts.append(logits)
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)
        listened = model.listen(said[:, :20], model.init_state(1))
        torch.testing.assert_close(model.advance(said[:, 20:], listened)[0], whole[:, 20:], atol=1e-4, rtol=1e-4)
        states, after = model.begin_frame(listened)  # frame 20 by hand
        depth, given = model.depth.init_state(states), states
        for q in range(3):
            logits, depth = model.depth.step(q, given, depth)
            torch.testing.assert_close(logits, whole[:, 20, q], atol=1e-4, rtol=1e-4)
            given = said[:, 20, q]
        rest, _ = model.advance(said[:, 21:], model.end_frame(said[:, 20], after))
        torch.testing.assert_close(rest, whole[:, 21:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["lact", "full", "window"])
def test_no_logit_knows_its_own_code_or_a_later_one(backbone):
    model, said = generator(backbone=backbone), codes(40).values
    changed = said.clone()
    changed[:, 25, 1:] = (changed[:, 25, 1:] + 1) % 12
    with torch.no_grad():
        a, b = (model.advance(x, model.init_state(1))[0] for x in (said, changed))
    torch.testing.assert_close(a[:, :25], b[:, :25])
    torch.testing.assert_close(a[:, 25, :2], b[:, 25, :2])  # books 0 and 1 know book 0 at the most
    assert not torch.allclose(a[:, 25, 2], b[:, 25, 2]) and not torch.allclose(a[:, 26], b[:, 26])


def test_only_fast_weights_remember_beyond_the_windows():
    """Two layers of 8 frames reach 16 frames back. What was said 24 frames before matters to LaCT, and to full attention."""
    a, b = codes(60).values, codes(60).values.clone()
    b[:, :12] = codes(12, seed=1).values
    far = {}
    for name, model in (("lact", generator()), ("window", generator(backbone="window")), ("full", generator(backbone="full")),
                        ("off", generator())):
        model.set_updates(name != "off")
        with torch.no_grad():
            x, y = (model.advance(said, model.init_state(1))[0][:, 36:] for said in (a, b))
        far[name] = float((x - y).abs().max())
    assert far["window"] < 1e-5 and far["off"] < 1e-5 and far["lact"] > 1e-3 and far["full"] > 1e-3


def test_padding_never_matters_and_the_loss_is_of_the_right_codes():
    model, said = generator(), codes(33, 50, 7)
    losses, frames, _ = model.losses(Batch(["a", "b", "c"], codes=said))
    for i, length in enumerate(said.lengths.tolist()):
        alone = said.values[i:i + 1, :length]
        logits, _ = model.advance(alone, model.init_state(1))
        wanted = F.cross_entropy(logits.flatten(0, 2), alone.flatten(), reduction="none").view(length, 3)
        torch.testing.assert_close(losses[i, :length], wanted, atol=1e-4, rtol=1e-4)
        assert not losses[i, length:].any()
    found = model.loss(Batch(["a", "b", "c"], codes=said))
    assert float(found.total) == pytest.approx(float(losses.sum()) / 90 / 3, rel=1e-5) and int(found.weight) == 270
    assert set(found.parts) == {"book_1", "book_2", "book_3"}


def test_gradients_are_truncated_and_the_state_goes_on():
    said = Batch(["a"], codes=codes(48))
    grads = []
    for gradient in (1, 3):
        model = generator(gradient=gradient)
        model.loss(said).total.backward()
        grads.append(model.backbone.layers[0].fast.control.weight.grad.clone())
    assert not torch.allclose(grads[0], grads[1])
    model = generator()
    whole = model.losses(said)[0]
    first, _, state = model.losses(Batch(["a"], codes=Padded.of([said.codes.values[0, :20]])))
    rest, _, _ = model.losses(Batch(["a"], codes=Padded.of([said.codes.values[0, 20:]])), state)
    torch.testing.assert_close(torch.cat((first, rest), 1), whole, atol=1e-4, rtol=1e-4)


def test_twice_as_long_as_anything_before_stays_finite():
    model = generator()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(5):
        optimizer.zero_grad()
        model.loss(Batch(["a"], codes=codes(64, seed=step))).total.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.loss(Batch(["a"], codes=codes(640))).total.isfinite()


@pytest.mark.parametrize("window", [False, True])
def test_baselines_have_as_many_parameters(window):
    sizes = config(lact=LaCTConfig(dim=64, heads=2, ffn=96, layers=3, left=16, fast=FastConfig(heads=2, chunk=16)))
    assert voxkit.BaselineAudioTransformer is BaselineAudioTransformer and voxkit.LaCTAudioGenerator is LaCTAudioGenerator
    ours, theirs = count(LaCTAudioGenerator(sizes)), count(BaselineAudioTransformer(sizes, window))
    assert abs(theirs / ours - 1) < 0.01


def test_what_cannot_work_is_refused():
    fast = {"chunk": 32}
    for wrong, what in (({"lact": {"left": 16, "fast": fast}}, "shorter than a chunk"), ({"lact": {"right": 1, "fast": fast}}, "no future"),
                        ({"backbone": "rnn"}, "lact, full, window")):
        with pytest.raises(ConfigError, match=what):
            structure(LaCTAudioConfig, OmegaConf.create(wrong), "model")
    with pytest.raises(ValueError, match="3 books"):
        generator().loss(Batch(["a"], codes=Padded.of([torch.zeros(5, 2, dtype=torch.long)])))
    with pytest.raises(ValueError, match="codebooks"):
        build(replace(config(), codebooks=0), TokenIds(12))
    with pytest.raises(ValueError, match="codec"):
        build(config(), object())
