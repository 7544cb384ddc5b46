"""Consistency between two views of a batch."""

import pytest
import torch

from voxkit.losses.consistency import consistency_loss


def test_it_is_kl_both_ways_over_valid_frames():
    torch.manual_seed(0)
    log_probs = torch.randn(4, 5, 3).log_softmax(-1)
    found = consistency_loss(log_probs, torch.tensor([5, 2, 5, 2]))
    for row, other, frames in ((0, 2, 5), (1, 3, 2), (2, 0, 5), (3, 1, 2)):
        expected = torch.nn.functional.kl_div(log_probs[row, :frames], log_probs[other, :frames], reduction="sum", log_target=True)
        torch.testing.assert_close(found[row], expected)


def test_equal_views_cost_nothing_and_each_is_drawn_to_the_other():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 3)
    assert consistency_loss(logits.log_softmax(-1).repeat(2, 1, 1), torch.tensor([4, 4])).abs().max() < 1e-6
    both = torch.cat([logits, torch.randn(1, 4, 3)]).requires_grad_()
    before = consistency_loss(both.log_softmax(-1), torch.tensor([4, 4])).sum()
    before.backward()
    # d KL(q ‖ softmax(z)) / dz = softmax(z) - q, with q not followed
    probs = both.detach().softmax(-1)
    torch.testing.assert_close(both.grad, probs - probs.flip(0))


def test_rows_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="3 rows"):
        consistency_loss(torch.zeros(3, 2, 2), torch.tensor([2, 2, 2]))
