"""k2's losses against ours; without k2 the options say what to install."""

import pytest
import torch

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


@pytest.mark.skipif(available("k2"), reason="k2 is installed")
@pytest.mark.parametrize("options", [{"ctc_by": "k2"}, {"transducer": 0.5}])
def test_without_k2_the_options_say_what_to_install(options, tokenizer):  # noqa: F811
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        recipe({"kind": "fbank"}, loss=options).build_model(tokenizer.vocab_size)
