"""k2's CTC loss against ours; without k2 the options say what to install."""

import pytest
import torch

from tests.models.test_voxformer import make_batch, setup, tokenizer  # noqa: F401
from voxkit.losses.hybrid import ctc_loss
from voxkit.losses.k2_losses import k2_ctc_loss
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


@needs_k2
@pytest.mark.parametrize("options", [{"ctc_by": "k2"}, {"ctc_by": "k2", "transducer": 0.5, "attention": 0.7}])
def test_a_model_learns_by_them(options, tokenizer):  # noqa: F811
    torch.manual_seed(0)
    model = setup({"kind": "fbank"}, loss=options, transducer={"decoder_dim": 16, "joiner_dim": 16}).build_model(tokenizer.size)
    model.begin_training(tokenizer)
    batch = make_batch(tokenizer)
    plain = setup({"kind": "fbank"}).build_model(tokenizer.size)
    plain.load_state_dict(model.state_dict(), strict=False)
    losses, without = model.eval().loss(batch), plain.eval().loss(batch)
    torch.testing.assert_close(losses.parts["ctc"], without.parts["ctc"], atol=1e-2, rtol=1e-3)
    rest = 0.5 * (losses.parts["transducer_simple"] + 0.1 * losses.parts["transducer"]) if "transducer" in options else torch.tensor(0.0)
    torch.testing.assert_close(losses.total - without.total, rest, atol=1e-2, rtol=1e-3)
    model.train().loss(batch).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.ctc.parameters())
    if "transducer" in options:
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.transducer.parameters())


@pytest.mark.skipif(available("k2"), reason="k2 is installed")
@pytest.mark.parametrize("options", [{"loss": {"ctc_by": "k2"}}, {"loss": {"transducer": 0.5}, "transducer_loss": {"by": "k2"}}])
def test_without_k2_the_options_say_what_to_install(options, tokenizer):  # noqa: F811
    model = setup({"kind": "fbank"}, **options).build_model(tokenizer.size)
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        model.begin_training(tokenizer)
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        model.loss(make_batch(tokenizer))
    with torch.no_grad():
        assert model.eval().ctc_log_probs(model.encode(make_batch(tokenizer))[0]).isfinite().all(), "using it takes no k2"
