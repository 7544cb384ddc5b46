"""Functions that leave inference mode for what cannot work in it."""

import torch

from voxkit.ops.inference import outside_inference_mode


@outside_inference_mode
def look(x, *, y):
    assert x._version + y._version >= 0, "reading it raises for a tensor of inference mode"
    return x.is_inference(), y.is_inference(), (x * 2).is_inference(), (x * 2).requires_grad


def test_inside_inference_mode_it_sees_ordinary_tensors_without_gradients():
    with torch.inference_mode():
        x = torch.ones(2)
        assert look(x, y=torch.ones(1)) == (False, False, False, False)
        assert torch.is_inference_mode_enabled() and (x * 2).is_inference()


def test_elsewhere_nothing_changes():
    x = torch.ones(2, requires_grad=True)
    assert look(x, y=torch.ones(1)) == (False, False, False, True)
