"""The parallel decoder: padding, both directions, glancing."""

import pytest
import torch

from voxkit.decoders.parallel import GlancingConfig, ParallelDecoder, glance
from voxkit.decoders.transformer import TransformerDecoderConfig
from voxkit.losses.mwer import substitution_risk


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return ParallelDecoder(TransformerDecoderConfig(dim=16, heads=2, ffn=32, layers=2), 11, 12).eval()


def test_padding_does_not_matter(decoder):
    vectors, memory, counts, lengths = torch.randn(2, 6, 12), torch.randn(2, 20, 12), torch.tensor([6, 3]), torch.tensor([20, 11])
    whole = decoder(vectors, counts, memory, lengths)
    alone = decoder(vectors[1:, :3], counts[1:], memory[1:, :11], lengths[1:])
    torch.testing.assert_close(whole[1, :3], alone[0], rtol=1e-4, atol=1e-5)
    assert whole.isfinite().all()


def test_every_token_sees_every_other(decoder):
    vectors, memory = torch.randn(1, 5, 12), torch.randn(1, 9, 12)
    before = decoder(vectors, torch.tensor([5]), memory, torch.tensor([9]))
    vectors[0, 2] += 1.0
    changed = (decoder(vectors, torch.tensor([5]), memory, torch.tensor([9])) - before).abs().amax(-1)[0]
    assert (changed > 1e-5).all()


def test_an_utterance_without_tokens_is_no_nan(decoder):
    out = decoder(torch.zeros(2, 3, 12), torch.tensor([3, 0]), torch.randn(2, 9, 12), torch.tensor([9, 4]))
    assert out.isfinite().all()


def test_attention_weights_are_those_of_the_pass(decoder):
    weights = decoder.attention_weights(torch.randn(1, 4, 12), torch.tensor([4]), torch.randn(1, 9, 12), torch.tensor([7]))
    assert weights.shape == (2, 1, 2, 4, 9) and not weights[..., 7:].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 2, 4))


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_glancing_shows_a_share_of_the_errors(ratio):
    torch.manual_seed(0)
    tokens, lengths = torch.randint(3, 11, (4, 10)), torch.tensor([10, 10, 6, 1])
    logits = torch.nn.functional.one_hot(tokens, 11).float()
    logits[0, :8] = 0.0
    logits[0, :8, 0] = 1.0  # eight wrong
    logits[2] = 0.0
    logits[2, :, 1] = 1.0  # all six wrong, and padding too
    shown = glance(logits, tokens, lengths, ratio)
    assert shown.sum(1).tolist() == [round(8 * ratio), 0, round(6 * ratio), 0]
    assert not shown[2, 6:].any()


def test_shown_tokens_replace_vectors(decoder):
    vectors, memory, tokens = torch.randn(1, 3, 12), torch.randn(1, 9, 12), torch.tensor([[4, 5, 6]])
    args = torch.tensor([3]), memory, torch.tensor([9]), tokens, torch.tensor([[False, True, False]])
    before = decoder(vectors, *args)
    vectors[0, 1] += 5.0
    torch.testing.assert_close(decoder(vectors, *args), before)
    vectors[0, 0] += 5.0
    assert (decoder(vectors, *args) - before).abs().max() > 1e-3


def test_schedule_of_the_ratio():
    config = GlancingConfig(0.8, 0.2, 100)
    assert [config.ratio(s) for s in (0, 50, 100, 999)] == pytest.approx([0.8, 0.5, 0.2, 0.2])
    assert GlancingConfig(1.2, 0, -1).problems() == ["start: 1.2 is not in [0, 1]", "steps: -1 is negative"]


def test_risk_pushes_towards_the_truth():
    torch.manual_seed(0)
    logits, tokens, lengths = torch.zeros(1, 3, 5, requires_grad=True), torch.tensor([[1, 2, 3]]), torch.tensor([3])
    total = torch.zeros(1, 3, 5)
    for _ in range(200):
        (grad,) = torch.autograd.grad(substitution_risk(logits, tokens, lengths).sum(), logits)
        total += grad
    assert total.argmin(-1).tolist() == [[1, 2, 3]]
    assert substitution_risk(logits, tokens, torch.tensor([0])).abs().item() == 0
    with pytest.raises(ValueError, match="at least 2 samples"):
        substitution_risk(logits, tokens, lengths, 1)
