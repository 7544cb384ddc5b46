"""The weighted sum over states."""

from __future__ import annotations

import pytest
import torch

from voxkit.encoders.layer_mix import LayerMix


def test_starts_as_the_mean_and_learns():
    mix = LayerMix(3)
    states = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(mix(states), states.mean(1))
    mix(states).square().mean().backward()
    assert mix.logits.grad.abs().max() > 0
    assert mix.weights.sum() == pytest.approx(1.0)


def test_weights_do_what_they_say():
    mix = LayerMix(2)
    with torch.no_grad():
        mix.logits.copy_(torch.tensor([0.0, 3.0]).log().clamp(min=-30))
    states = torch.randn(1, 2, 3, 4)
    torch.testing.assert_close(mix(states), states[:, 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_are_summed_in_float32(dtype):
    mix = LayerMix(64)
    states = torch.randn(1, 64, 7, 8).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mix(states)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, states.double().mean(1).float(), atol=1e-6, rtol=1e-5)


def test_layer_norm_makes_states_comparable():
    states = torch.randn(2, 2, 5, 16)
    states[:, 1] *= 500
    states[0, :, 3:] = 0
    mixed = LayerMix(2, layer_norm=True)(states)
    expected = torch.nn.functional.layer_norm(states, (16,)).mean(1)
    torch.testing.assert_close(mixed, expected)
    assert not mixed[0, 3:].any()


def test_wrong_number_of_states_is_refused():
    with pytest.raises(ValueError, match="expected 3 states"):
        LayerMix(3)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="at least one"):
        LayerMix(0)
