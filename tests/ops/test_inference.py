"""Functions that leave inference mode for what cannot work in it."""

import torch

from voxkit.ops.inference import outside_inference_mode


@outside_inference_mode
def versions(x, *, y):
    return x._version, y._version, (x * 2).is_inference(), (x * 2).requires_grad


def test_inside_inference_mode_it_sees_ordinary_tensors_without_gradients():
    with torch.inference_mode():
        x = torch.ones(2)
        assert versions(x, y=torch.ones(1)) == (0, 0, False, False)
        assert torch.is_inference_mode_enabled() and (x * 2).is_inference()


def test_elsewhere_nothing_changes():
    x = torch.ones(2, requires_grad=True)
    assert versions(x, y=torch.ones(1)) == (0, 0, False, True)
