"""The transducer loss against a walk over all alignments, torchaudio's own, icefall's golden values, and k2's where it is there."""

import itertools
import math

import pytest
import torch
import torchaudio

from tests.decoders.test_transducer_head import golden, head  # noqa: F401
from voxkit.losses.transducer import TransducerLossConfig, joined_loss, lattice_loss, simple_loss, transducer_loss
from voxkit.masks import lengths_to_mask
from voxkit.optional import MissingPackage, available

needs_k2 = pytest.mark.skipif(not available("k2"), reason="k2 is not installed (tools/install_k2.sh)")


def case(**options):
    model = head(**options)
    states = torch.randn(3, 12, 8, requires_grad=True)
    return model, states, torch.tensor([12, 9, 4]), torch.tensor([[1, 2, 3], [4, 4, 0], [6, 0, 0]]), torch.tensor([3, 2, 1])


def unpruned(logits, lengths, tokens, sizes):
    return torchaudio.functional.rnnt_loss(logits, tokens.int(), lengths.int(), sizes.int(), blank=0, reduction="none")


def joined(model, states, tokens):
    return model.joiner(model.hear(states)[:, :, None], model.joiner.decoder_proj(model.decode(tokens))[:, None])


def test_the_lattice_sums_all_alignments():
    torch.manual_seed(0)
    blanks, labels = -torch.rand(2, 4, 4), -torch.rand(2, 4, 4)
    lengths, sizes = torch.tensor([4, 3]), torch.tensor([3, 2])
    for b, (frames, size) in enumerate(zip(lengths.tolist(), sizes.tolist())):
        total = []
        for emitted in itertools.combinations_with_replacement(range(frames), size):  # the frame of each token; the last blank ends it
            path = sum(float(labels[b, t, u]) for u, t in enumerate(emitted))
            total.append(path + sum(float(blanks[b, t, sum(e <= t for e in emitted)]) for t in range(frames)))
        expected = -math.log(sum(map(math.exp, total)))
        assert float(lattice_loss(blanks, labels, lengths, sizes)[b]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("most_scores", [10 ** 9, 300, 1])
def test_cut_into_pieces_it_is_torchaudios(most_scores):
    model, states, lengths, tokens, sizes = case()
    ours = joined_loss(model, states, lengths, tokens, sizes, most_scores)
    theirs = unpruned(joined(model, states, tokens), lengths, tokens, sizes)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    watched = [states, *model.decoder.parameters(), *model.joiner.parameters()]
    for one, other in zip(*(torch.autograd.grad(loss.sum(), watched) for loss in (ours, theirs))):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_one_piece_is_in_memory_at_a_time():
    model, states, lengths, tokens, sizes = case()
    kept = []

    def measure(most_scores):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            joined_loss(model, states, lengths, tokens, sizes, most_scores)
        return max(kept)

    assert measure(10 ** 9) >= 25 * 4 * 10 and measure(100) < 25 * 4 * 10


def test_the_simple_loss_is_a_joiner_that_adds():
    model, states, lengths, tokens, sizes = case()
    am, lm = model.simple_am_proj(states), model.simple_lm_proj(model.decode(tokens))
    ours, theirs = simple_loss(am, lm, lengths, tokens, sizes), unpruned(am[:, :, None] + lm[:, None], lengths, tokens, sizes)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    for one, other in zip(*(torch.autograd.grad(loss.sum(), (am, lm)) for loss in (ours, theirs))):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_smoothed_simple_loss_mixes_log_probabilities():
    model, states, lengths, tokens, sizes = case()
    am, lm = model.simple_am_proj(states), model.simple_lm_proj(model.decode(tokens))
    mean = lm.softmax(-1)[lengths_to_mask(sizes + 1)].mean(0).log()
    by = 0.5 * (am[:, :, None] + lm[:, None]).log_softmax(-1) + 0.3 * lm.log_softmax(-1)[:, None] + \
        0.2 * (am + mean).log_softmax(-1)[:, :, None]
    following = torch.nn.functional.pad(tokens, (0, 1))[:, None, :, None].expand(-1, 12, -1, -1)
    expected = lattice_loss(by[..., 0], by.gather(3, following)[..., 0], lengths, sizes)
    torch.testing.assert_close(simple_loss(am, lm, lengths, tokens, sizes, 0, 0.3, 0.2), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("by", ["torchaudio", pytest.param("k2", marks=needs_k2)])
@pytest.mark.parametrize("prune_range", [2, 5])
def test_padding_never_matters(by, prune_range):
    model, states, lengths, tokens, sizes = case()
    config = TransducerLossConfig(by=by, prune_range=prune_range)
    alone = sum(transducer_loss(model, states[b:b + 1, :t], lengths[b:b + 1], tokens[b:b + 1, :u], sizes[b:b + 1], config, 100).total
                for b, (t, u) in enumerate(zip(lengths.tolist(), sizes.tolist())))
    padded = torch.nn.functional.pad(states, (0, 0, 0, 3), value=9.0), torch.nn.functional.pad(tokens, (0, 2), value=6)
    together = transducer_loss(model, padded[0], lengths, padded[1], sizes, config, 100)
    torch.testing.assert_close(together.total, alone, atol=1e-3, rtol=1e-4)


def test_an_empty_text_is_all_blanks():
    model, states, lengths, tokens, sizes = case()
    found = joined_loss(model, states, lengths, tokens, torch.tensor([3, 0, 1]), 10 ** 6)[1]
    blanks = joined(model, states, tokens[:, :0]).log_softmax(-1)[1, :9, 0, 0]
    torch.testing.assert_close(found, -blanks.sum(), atol=1e-4, rtol=1e-5)
    nothing = transducer_loss(model, states, lengths, tokens, torch.zeros(3, dtype=torch.long), TransducerLossConfig(by="torchaudio"), 0)
    assert nothing.total.isfinite()


def test_the_weights_move_over_the_warm_up():
    config = TransducerLossConfig(warmup_steps=100, simple_scale=0.5)
    assert config.weights(0) == (1.0, 0.1) and config.weights(50) == pytest.approx((0.75, 0.55)) and config.weights(200) == (0.5, 1.0)
    model, states, lengths, tokens, sizes = case()
    losses = transducer_loss(model, states, lengths, tokens, sizes, TransducerLossConfig(by="torchaudio", warmup_steps=100), 50)
    torch.testing.assert_close(losses.total, 0.75 * losses.simple + 0.55 * losses.joined)


def test_it_trains():
    torch.manual_seed(0)
    model = head(vocab=7)
    states, lengths = torch.randn(2, 12, 8), torch.tensor([12, 9])
    tokens, sizes = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    config, losses = TransducerLossConfig(by="torchaudio", warmup_steps=0), []
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(30):
        loss = transducer_loss(model, states, lengths, tokens, sizes, config, step).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_golden_loss(golden):  # noqa: F811
    golden, model = golden
    for most_scores in (10 ** 9, 40_000):
        found = joined_loss(model, golden["encoder_out"], golden["encoder_lengths"], golden["tokens"], golden["token_lengths"], most_scores)
        torch.testing.assert_close(found, golden["loss"], atol=1e-4, rtol=1e-5)


def test_wrong_options_are_named():
    found = TransducerLossConfig(by="warp", prune_range=1, lm_scale=0.8, am_scale=0.3).problems()
    assert found == ["by: 'warp' is none of auto, k2, torchaudio", "prune_range: 1 is below 2",
                     "lm_scale: 0.8 and am_scale 0.3 are shares, together at most 1"]


@pytest.mark.skipif(available("k2"), reason="k2 is installed")
def test_without_k2_auto_takes_torchaudio_and_k2_says_what_to_install():
    model, states, lengths, tokens, sizes = case()
    auto, plain = (transducer_loss(model, states, lengths, tokens, sizes, TransducerLossConfig(by=by), 9) for by in ("auto", "torchaudio"))
    torch.testing.assert_close(auto.total, plain.total)
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        transducer_loss(model, states, lengths, tokens, sizes, TransducerLossConfig(by="k2"), 9)


@needs_k2
@pytest.mark.parametrize("prune_range", [4, 9])
def test_k2s_full_range_is_torchaudios(prune_range, capfd):
    model, states, lengths, tokens, sizes = case()
    ours, theirs = (transducer_loss(model, states, lengths, tokens, sizes, TransducerLossConfig(by=by, prune_range=prune_range), 500)
                    for by in ("torchaudio", "k2"))
    torch.testing.assert_close(theirs.simple, ours.simple, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(theirs.joined, ours.joined, atol=1e-3, rtol=1e-4)
    for one, other in zip(*(torch.autograd.grad(loss.total, [states, *model.parameters()]) for loss in (ours, theirs))):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert not capfd.readouterr().out, "k2 prints a warning where it changes the range"


@needs_k2
def test_a_text_longer_than_its_frames_has_a_finite_pruned_loss(capfd):
    model, states, *_ = case()
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6, 1, 2]])
    config = TransducerLossConfig(by="k2", prune_range=2)
    loss = transducer_loss(model, states[:1, :3], torch.tensor([3]), tokens, torch.tensor([8]), config, 0)
    assert loss.total.isfinite() and not capfd.readouterr().out
