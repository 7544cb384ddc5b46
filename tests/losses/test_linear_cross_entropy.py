"""The chunked loss against all logits at once: values and gradients."""

from __future__ import annotations

import pytest
import torch

from voxkit.losses.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_reference


@pytest.mark.parametrize("softcap", [0.0, 3.0])
@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("with_bias", [False, True])
def test_chunks_give_the_values_and_gradients_of_the_whole(softcap, chunk, with_bias):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).float()  # noqa: E731
    states, weight, bias = draw(11, 8), draw(21, 8), draw(21) if with_bias else None
    targets, outer = torch.randint(0, 21, (11,), generator=generator), draw(11)
    results = []
    for function in (linear_cross_entropy, linear_cross_entropy_reference):
        inputs = [x.clone().requires_grad_() for x in (states, weight, *([bias] if with_bias else []))]
        options = {"chunk": chunk} if function is linear_cross_entropy else {}
        losses = function(inputs[0], inputs[1], targets, inputs[2] if with_bias else None, softcap, **options)
        (losses * outer).sum().backward()
        results.append([losses.detach(), *(x.grad for x in inputs)])
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_no_rows_give_none():
    states = torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(5, 4)
    linear_cross_entropy(states, weight, torch.tensor([0, 1, 4])).sum().backward()
    assert weight.grad is None and states.grad.abs().sum() > 0
    assert linear_cross_entropy(states[:0], weight, torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        linear_cross_entropy(torch.randn(3, 4), torch.randn(5, 3), torch.zeros(3, dtype=torch.long))
