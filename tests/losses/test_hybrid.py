"""The hybrid loss: its weights over the warm-up, and CTC against the sum over all alignments."""

import itertools
import math

import pytest
import torch

from voxkit.config import ConfigError, structure
from voxkit.losses.hybrid import HybridLossConfig, correct_tokens, ctc_loss, label_smoothed_cross_entropy


def test_weights_move_linearly_over_the_warm_up():
    config = HybridLossConfig()
    assert config.weights(0) == (0.4, 0.6)
    assert config.weights(2500) == pytest.approx((0.35, 0.65))
    assert config.weights(5000) == config.weights(10**6) == pytest.approx((0.3, 0.7))


def test_impossible_weights_are_named():
    with pytest.raises(ConfigError, match="loss.label_smoothing"):
        structure(HybridLossConfig, {"label_smoothing": 1.5}, "loss")


def test_ctc_is_the_sum_over_alignments():
    log_probs = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        if [t for t, _ in itertools.groupby(path) if t] == [1, 2]:
            total += math.exp(sum(log_probs[0, i, t].item() for i, t in enumerate(path)))
    loss = ctc_loss(log_probs, torch.tensor([4]), torch.tensor([[1, 2]]), torch.tensor([2]))
    assert loss.item() == pytest.approx(-math.log(total), rel=1e-5)


def test_cross_entropy_ignores_padding():
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[1, 2, -100], [4, -100, -100]])
    losses = label_smoothed_cross_entropy(logits, targets, 0.0)
    expected = -logits.log_softmax(-1)[0, [0, 1], [1, 2]].sum()
    torch.testing.assert_close(losses[0], expected)
    perfect = torch.nn.functional.one_hot(targets.clamp(min=0), 5).float()
    right, count = correct_tokens(perfect, targets)
    assert right == count == (targets != -100).sum()
