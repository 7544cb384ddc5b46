"""Weights between boundaries: each token's own, and scaled so that it fires at its boundary."""

import pytest
import torch

from voxkit.ops.cif import cif
from voxkit.ops.cif_boundaries import Boundaries, scale_to_boundaries, token_masses

TIMES = torch.tensor([[2.0, 3.5, 6.0], [1.5, torch.inf, torch.inf], [torch.inf] * 3])
COUNTS, LENGTHS = torch.tensor([4, 2, 1]), [9, 5, 3]


def weights_of(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    weights = torch.rand(3, 9, dtype=torch.float64) + 0.05
    for b, n in enumerate(LENGTHS):
        weights[b, n:] = 0.0
    return weights


def test_masses_are_what_lies_between():
    weights = torch.tensor([[0.5, 0.5, 0.2, 0.8, 1.0, 0.1, 0.1, 0.2, 0.3]])
    torch.testing.assert_close(token_masses(weights, TIMES[:1]), torch.tensor([[1.0, 0.6, 1.5, 0.6]]))
    torch.testing.assert_close(token_masses(weights, TIMES[2:]), torch.tensor([[3.7, 0.0, 0.0, 0.0]]))


def test_every_token_fires_at_its_boundary():
    weights = weights_of(0)
    scaled = scale_to_boundaries(weights, Boundaries(TIMES, torch.ones(3, dtype=torch.bool)), COUNTS)
    torch.testing.assert_close(scaled.sum(1), COUNTS.double())
    assert not scaled[weights == 0].any()
    frames = torch.arange(9.0, dtype=torch.float64)[None, :, None].expand(3, -1, -1)
    out = cif(frames, scaled, COUNTS)
    torch.testing.assert_close(out.times[0, [0, 2]], TIMES[0, [0, 2]])
    assert 3 < out.times[0, 1] < 4  # in the frame that the boundary cuts
    own = (weights[0, 3] / 2 * 3 + weights[0, 4] * 4 + weights[0, 5] * 5) / (weights[0, 3] / 2 + weights[0, 4:6].sum())
    torch.testing.assert_close(out.vectors[0, 2, 0], own, rtol=1e-5, atol=1e-5)  # from the middle of frame 3 on


def test_what_is_not_known_is_scaled_as_a_whole():
    weights, known = weights_of(1), torch.tensor([False, True, False])
    scaled = scale_to_boundaries(weights, Boundaries(TIMES, known), COUNTS)
    for b in (0, 2):
        torch.testing.assert_close(scaled[b], weights[b] * COUNTS[b] / weights[b].sum())
    torch.testing.assert_close(scaled.sum(1), COUNTS.double())
    nothing = scale_to_boundaries(weights, Boundaries(TIMES, ~known & False), COUNTS)
    torch.testing.assert_close(nothing[0], scaled[0])
    assert not scale_to_boundaries(weights, Boundaries(TIMES, torch.ones(3, dtype=torch.bool)), COUNTS * 0).any()


def test_gradients_are_right():
    weights = weights_of(2)
    boundaries, speech = Boundaries(TIMES, torch.tensor([True, True, False])), weights > 0
    assert torch.autograd.gradcheck(lambda w: scale_to_boundaries(w * speech, boundaries, COUNTS), weights.requires_grad_())


def test_tokens_almost_without_weight_keep_gradients_finite():
    weights = torch.full((1, 9), 1e-9, requires_grad=True)
    scaled = scale_to_boundaries(weights, Boundaries(TIMES[:1], torch.ones(1, dtype=torch.bool)), COUNTS[:1])
    assert (scaled >= 0).all()
    scaled.square().sum().backward()
    assert weights.grad.isfinite().all() and weights.grad.abs().max() < 1e3


def test_padding_never_matters():
    weights, known = weights_of(3), torch.ones(3, dtype=torch.bool)
    whole = scale_to_boundaries(weights, Boundaries(TIMES, known), COUNTS)
    for b, (n, u) in enumerate(zip(LENGTHS, COUNTS.tolist())):
        alone = scale_to_boundaries(weights[b:b + 1, :n], Boundaries(TIMES[b:b + 1, :u - 1], known[:1]), COUNTS[b:b + 1])
        torch.testing.assert_close(alone[0], whole[b, :n])


def test_shapes_are_named():
    with pytest.raises(ValueError, match="times has shape"):
        token_masses(torch.rand(2, 5), torch.rand(3, 1))
