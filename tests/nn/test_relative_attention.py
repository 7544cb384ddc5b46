"""Relative attention against its definition; positions."""

import pytest
import torch

from voxkit.nn.positions import POSITIONS, LearnedPositions, distances, sinusoids
from voxkit.nn.relative import RelativeAttention, SelfAttention, shift_distances, shift_reference


def test_shift_is_its_definition():
    x = torch.randn(2, 3, 7, 13)
    torch.testing.assert_close(shift_distances(x), shift_reference(x))


def test_scores_are_those_of_the_paper():
    """Every (query, key) pair by itself: (q + u)·k + (q + v)·r(i - j), as in equation (2) of Dai et al."""
    torch.manual_seed(0)
    layer, x = RelativeAttention(8, 2), torch.randn(1, 5, 8)
    torch.nn.init.normal_(layer.key_bias)
    torch.nn.init.normal_(layer.position_bias)
    _, weights = layer.attend(x, need_weights=True)
    q, k = layer._split(layer.query(x))[0], layer._split(layer.key(x))[0]
    for head in range(2):
        scores = torch.empty(5, 5)
        for i in range(5):
            for j in range(5):
                place = sinusoids(6, 8)[abs(i - j)].clone()
                if i < j:
                    place[::2] *= -1  # sine is odd
                r = layer.position(place).view(2, 4)[head]
                scores[i, j] = ((q[head, i] + layer.key_bias[head, 0]) @ k[head, j] + (q[head, i] + layer.position_bias[head, 0]) @ r) / 2
        torch.testing.assert_close(weights[0, head], scores.softmax(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [RelativeAttention, SelfAttention])
def test_fast_is_slow_and_masks_hold(kind):
    torch.manual_seed(0)
    layer, x = kind(16, 4), torch.randn(2, 9, 16)
    mask = torch.arange(9)[None] < torch.tensor([[9], [6]])
    fast, none = layer.attend(x, mask[:, None, None])
    slow, weights = layer.attend(x, mask[:, None, None], need_weights=True)
    assert none is None and not weights[1, :, :, 6:].any()
    torch.testing.assert_close(fast, slow)
    alone, _ = layer.attend(x[1:, :6])
    torch.testing.assert_close(fast[1, :6], alone[0], rtol=1e-4, atol=1e-5)


def test_distances_run_from_past_to_future():
    d = distances(3, 4)
    torch.testing.assert_close(d[2], sinusoids(1, 4)[0])
    torch.testing.assert_close(d[:2].flip(0), sinusoids(3, 4)[1:])


@pytest.mark.parametrize("kind", POSITIONS)
def test_positions_keep_the_shape(kind):
    x = torch.randn(2, 5, 8)
    y = POSITIONS[kind](8)(x)
    assert y.shape == x.shape and torch.equal(y, x) == (kind in ("relative", "none"))


def test_learned_positions_end_somewhere():
    with pytest.raises(ValueError, match="11 positions, and the learned ones end at 10.*sinusoidal"):
        LearnedPositions(4, 10)(torch.zeros(1, 11, 4))
