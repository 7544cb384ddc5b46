"""Minimum word error training: the expected errors, and that following its gradient makes the better hypothesis likelier."""

import torch

from voxkit.losses.mwer import mwer_loss, word_errors


def test_expected_errors_by_hand():
    scores = torch.tensor([[0.0, 0.0, 5.0], [1.0, 1.0, 0.0]]).log_softmax(-1)
    valid = torch.tensor([[True, True, False], [True, False, False]])
    loss = mwer_loss(scores, torch.tensor([[0, 4, 9], [3, 0, 0]]), valid)
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.0]))  # equal scores: the mean; a single hypothesis: nothing to choose
    loss = mwer_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[0, 4]]), torch.ones(1, 2, dtype=torch.bool))
    share = torch.tensor([2.0, 0.0]).softmax(-1)
    torch.testing.assert_close(loss[0], share[1] * 4 - 2)


def test_its_gradient_prefers_fewer_errors():
    scores = torch.zeros(1, 3, requires_grad=True)
    mwer_loss(scores, torch.tensor([[1, 3, 2]]), torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1] and abs(float(scores.grad[0, 2])) < 1e-7


def test_errors_are_counted_in_words():
    starts = [False, False, False, False, True, False, True]
    assert word_errors([4, 5, 6, 5], [4, 6, 5], starts) == 1  # the first word differs, the second is the same
    assert word_errors([4, 5, 6, 5], [4, 6, 5], None) == 1
    assert word_errors([4, 5, 5], [4], starts) == 1 and word_errors([4, 5, 5], [4], None) == 2
