"""k2's losses against ours; without k2 the options say what to install."""

import pytest
import torch
import torchaudio

from tests.models.test_voxformer import make_batch, recipe, tokenizer  # noqa: F401
from voxkit.losses.hybrid import ctc_loss
from voxkit.losses.k2_losses import PrunedTransducer, TransducerConfig, k2_ctc_loss
from voxkit.optional import MissingPackage, available

needs_k2 = pytest.mark.skipif(not available("k2"), reason="k2 is not installed (tools/install_k2.sh)")


@needs_k2
def test_ctc_agrees_with_torch():
    x = torch.randn(3, 20, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    lengths, tokens, sizes = torch.tensor([12, 20, 9]), torch.tensor([[1, 2, 2], [3, 4, 5], [6, 0, 0]]), torch.tensor([3, 3, 1])
    ours, theirs = (f(x.log_softmax(-1), lengths, tokens, sizes) for f in (ctc_loss, lambda *a: k2_ctc_loss(*a, output_beam=1e3)))
    torch.testing.assert_close(theirs.float(), ours, atol=1e-3, rtol=1e-4)
    grads = [torch.autograd.grad(loss.sum(), x, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-3, rtol=1e-3)


@needs_k2
def test_ctc_of_a_text_that_does_not_fit_is_infinite_as_torch_says():
    x = torch.zeros(2, 3, 4).log_softmax(-1)
    lengths, tokens, sizes = torch.tensor([3, 3]), torch.tensor([[1, 1, 1], [2, 0, 0]]), torch.tensor([3, 1])
    ours, theirs = ctc_loss(x, lengths, tokens, sizes), k2_ctc_loss(x, lengths, tokens, sizes)
    assert ours[0] == theirs[0] == float("inf")
    torch.testing.assert_close(theirs[1], ours[1], atol=1e-4, rtol=1e-4)


def transducer_case(**options):
    torch.manual_seed(0)
    model = PrunedTransducer(TransducerConfig(dim=16, **options), 7, 8)
    states, lengths = torch.randn(3, 12, 8, requires_grad=True), torch.tensor([12, 9, 4])
    return model, states, lengths, torch.tensor([[1, 2, 3], [4, 4, 0], [6, 0, 0]]), torch.tensor([3, 2, 1])


def unpruned(logits, lengths, tokens, sizes):
    return torchaudio.functional.rnnt_loss(logits, tokens.int(), lengths.int(), sizes.int(), blank=0, reduction="sum")


@needs_k2
@pytest.mark.parametrize("prune_range", [4, 9])
def test_the_transducer_with_full_range_is_torchaudios(prune_range, capfd):
    model, states, lengths, tokens, sizes = transducer_case(prune_range=prune_range, simple_scale=0.0)
    theirs = model.loss(states, lengths, tokens, sizes)
    joined = model.join_am(states)[:, :, None] + model.join_lm(model.predict(tokens))[:, None]
    ours = unpruned(model.output(joined.tanh()), lengths, tokens, sizes)
    torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=1e-4)
    watched = [states, *model.embedding.parameters(), *model.output.parameters()]
    for one, other in zip(*(torch.autograd.grad(loss, watched, retain_graph=True) for loss in (ours, theirs))):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert not capfd.readouterr().out, "k2 prints a warning where it changes the range"


@needs_k2
def test_the_simple_loss_without_smoothing_is_torchaudios():
    model, states, lengths, tokens, sizes = transducer_case(prune_range=4, lm_scale=0.0)
    pruned, both = (PrunedTransducer.loss(model, states, lengths, tokens, sizes) for model.config.simple_scale in (0.0, 1.0))
    ours = unpruned(model.simple_am(states)[:, :, None] + model.simple_lm(model.predict(tokens))[:, None], lengths, tokens, sizes)
    torch.testing.assert_close(both - pruned, ours, atol=1e-3, rtol=1e-4)


@needs_k2
@pytest.mark.parametrize("prune_range", [2, 5])
def test_the_transducers_padding_never_matters(prune_range):
    model, states, lengths, tokens, sizes = transducer_case(prune_range=prune_range)
    alone = sum(model.loss(states[b:b + 1, :t], lengths[b:b + 1], tokens[b:b + 1, :u], sizes[b:b + 1])
                for b, (t, u) in enumerate(zip(lengths.tolist(), sizes.tolist())))
    torch.testing.assert_close(model.loss(states, lengths, tokens, sizes), alone, atol=1e-3, rtol=1e-4)


@needs_k2
def test_a_text_longer_than_its_frames_has_a_finite_transducer_loss(capfd):
    model, states, _, _, _ = transducer_case(prune_range=2)
    loss = model.loss(states[:1, :3], torch.tensor([3]), torch.tensor([[1, 2, 3, 4, 5, 6, 1, 2]]), torch.tensor([8]))
    assert loss.isfinite() and not capfd.readouterr().out


@needs_k2
def test_transducer_trains():
    torch.manual_seed(0)
    model = PrunedTransducer(TransducerConfig(dim=16), 7, 8)
    states, lengths = torch.randn(2, 12, 8), torch.tensor([12, 9])
    tokens, sizes = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(30):
        loss = model.loss(states, lengths, tokens, sizes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@needs_k2
@pytest.mark.parametrize("options", [{"ctc_by": "k2"}, {"transducer": 0.5}, {"ctc_by": "k2", "transducer": 0.5, "attention": 0.7}])
def test_a_model_learns_by_them(options, tokenizer):  # noqa: F811
    torch.manual_seed(0)
    model = recipe({"kind": "fbank"}, loss=options, transducer={"dim": 16}).build_model(tokenizer.size)
    model.begin_training(tokenizer)
    batch = make_batch(tokenizer)
    plain = recipe({"kind": "fbank"}).build_model(tokenizer.size)
    plain.load_state_dict(model.state_dict(), strict=False)
    losses, without = model.eval().loss(batch), plain.eval().loss(batch)
    torch.testing.assert_close(losses.parts["ctc"], without.parts["ctc"], atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(losses.total - without.total, 0.5 * losses.parts["transducer"] if "transducer" in options else
                               torch.tensor(0.0), atol=1e-2, rtol=1e-3)
    model.train().loss(batch).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.ctc.parameters())
    if "transducer" in options:
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.transducer.parameters())


def test_a_range_of_one_symbol_is_refused():
    assert TransducerConfig(prune_range=1).problems() == ["prune_range: 1 is below 2"]


@pytest.mark.skipif(available("k2"), reason="k2 is installed")
@pytest.mark.parametrize("options", [{"ctc_by": "k2"}, {"transducer": 0.5}])
def test_without_k2_the_options_say_what_to_install(options, tokenizer):  # noqa: F811
    model = recipe({"kind": "fbank"}, loss=options).build_model(tokenizer.size)
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        model.begin_training(tokenizer)
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        model.loss(make_batch(tokenizer))
    with torch.no_grad():
        assert model.eval().ctc_log_probs(model.encode(make_batch(tokenizer))[0]).isfinite().all(), "using it takes no k2"
