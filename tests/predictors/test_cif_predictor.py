"""The CIF predictor: padding, scaling, tail, streaming."""

import pytest
import torch

from voxkit.losses.quantity import quantity_loss
from voxkit.ops.cif_boundaries import Boundaries
from voxkit.predictors import CifConfig, CifPredictor


def _predictor(**options):
    torch.manual_seed(0)
    return CifPredictor(8, CifConfig(start_rate=0.3, **options)).eval()


@pytest.mark.parametrize("targets", [None, torch.tensor([7, 3, 2])])
def test_a_batch_gives_what_its_items_give_alone(targets):
    predictor, x, lengths = _predictor(), 2 * torch.randn(3, 30, 8), torch.tensor([30, 17, 4])
    whole = predictor(x, lengths, targets)
    for b, n in enumerate(lengths.tolist()):
        alone = predictor(x[b:b + 1, :n], lengths[b:b + 1], None if targets is None else targets[b:b + 1])
        count = int(alone.lengths)
        assert int(whole.lengths[b]) == count
        torch.testing.assert_close(whole.vectors[b, :count], alone.vectors[0])
        torch.testing.assert_close(whole.times[b, :count], alone.times[0])
        torch.testing.assert_close(whole.weights[b, :n], alone.weights[0])
        assert not whole.weights[b, n:].any()


def test_training_scales_to_the_targets():
    predictor, x, targets = _predictor(), torch.randn(2, 20, 8), torch.tensor([9, 4])
    out = predictor(x, torch.tensor([20, 20]), targets)
    torch.testing.assert_close(out.weights.sum(1), targets.float())
    assert out.vectors.shape == (2, 9, 8) and not out.vectors[1, 4:].any()
    assert (out.quantity - targets).abs().min() > 1e-3  # the sum before scaling is not the target: that is what the loss is for
    quantity_loss(out.quantity, targets).sum().backward()
    assert predictor.weight.bias.grad.abs() > 0


def test_boundaries_give_each_token_the_frames_between_its_own():
    """Whatever the weights: a token's vector is of its own frames, and what the quantity loss sees is not scaled."""
    predictor, x, targets = _predictor(), torch.randn(1, 20, 8), torch.tensor([3])
    boundaries = Boundaries(torch.tensor([[4.0, 15.0]]), torch.ones(1, dtype=torch.bool))
    lengths = torch.tensor([20])
    out, plain = predictor(x, lengths, targets, boundaries), predictor(x, lengths, targets)
    torch.testing.assert_close(out.times[0, :2], boundaries.times[0])
    for u, (a, b) in enumerate(((0, 4), (4, 15), (15, 20))):
        w = plain.unscaled[0, a:b]
        torch.testing.assert_close(out.vectors[0, u], (w[:, None] * x[0, a:b]).sum(0) / w.sum(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.unscaled, plain.unscaled)
    torch.testing.assert_close(out.quantity, plain.unscaled.sum(1))


def test_more_tokens_than_frames_can_be_trained():
    predictor = _predictor()
    out = predictor(torch.randn(1, 5, 8), torch.tensor([5]), torch.tensor([12]))
    assert bool((out.weights > 1).any()) and out.vectors.shape == (1, 12, 8)
    out.vectors.square().sum().backward()
    assert predictor.conv.weight.grad.isfinite().all()


def test_tail_becomes_a_token_or_not():
    x, lengths = torch.randn(1, 11, 8), torch.tensor([11])
    predictor = _predictor()
    with torch.no_grad():
        predictor.weight.weight.zero_()
        predictor.weight.bias.fill_(torch.tensor(0.15).logit())  # 11 × 0.15 = 1.65
    assert predictor(x, lengths).lengths.tolist() == [2]
    torch.testing.assert_close(predictor(x, lengths).vectors[0, 1], (0.05 * x[0, 6] + 0.15 * x[0, 7:].sum(0)) / 0.65, rtol=1e-4, atol=1e-5)
    predictor.config.tail = 0.3
    assert predictor(x, lengths).lengths.tolist() == [1]


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("chunks", [[5, 1, 9, 2, 13], [30], [1] * 30])
def test_stream_is_offline(kernel, chunks):
    predictor, x = _predictor(kernel=kernel), 2 * torch.randn(2, 30, 8)
    offline = predictor(x, torch.tensor([30, 30]))
    state, at, vectors, times = predictor.init_state(2), 0, [[], []], [[], []]
    for i, n in enumerate(chunks):
        out, state = predictor.stream(x[:, at:at + n], state, last=i == len(chunks) - 1)
        at += n
        for b in range(2):
            vectors[b] += list(out.vectors[b, :out.lengths[b]])
            times[b] += out.times[b, :out.lengths[b]].tolist()
    assert int(offline.lengths.min()) > 3
    for b in range(2):
        n = int(offline.lengths[b])
        assert len(vectors[b]) == n
        torch.testing.assert_close(torch.stack(vectors[b]), offline.vectors[b, :n], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(times[b]), offline.times[b, :n], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("silence", [0, 12])
def test_an_unfinished_token_ends_with_its_sound(silence):
    """Silence after the last token does not make it longer, streamed or not."""
    predictor = _predictor(kernel=1)
    with torch.no_grad():
        predictor.conv.weight.zero_()
        predictor.conv.weight[0, 0, 0], predictor.conv.bias[:] = 1.0, 0.0
        predictor.weight.weight.zero_()
        predictor.weight.weight[0, 0] = 1.0
        predictor.weight.bias.fill_(0.0)
    levels = torch.tensor([0.6, 0.6, 0.5]).logit()  # 1.7: one token and most of another
    x = torch.zeros(1, 3 + silence, 8)
    predictor.weight.bias.data.fill_(-8.0)
    x[0, :3, 0] = levels + 8.0
    out = predictor(x, torch.tensor([3 + silence]))
    assert out.lengths.tolist() == [2]
    torch.testing.assert_close(out.times[0], torch.tensor([1 + 2 / 3, 3.0]), atol=1e-2, rtol=0)
    state, found = predictor.init_state(1), []
    for i in range(3 + silence):
        part, state = predictor.stream(x[:, i:i + 1], state, last=i == 2 + silence)
        found += part.times[0, :part.lengths[0]].tolist()
    torch.testing.assert_close(torch.tensor(found), out.times[0], atol=1e-4, rtol=0)


def test_options_that_cannot_be():
    assert [p.split(":")[0] for p in CifConfig(kernel=4, tail=1.0, start_rate=0).problems()] == ["kernel", "tail", "start_rate"]
