"""What `torch.optim.Optimizer.step` may be given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def evaluate(closure: Callable[[], Tensor] | None) -> Tensor | None:
    """The loss of a closure that computes it anew, gradients too; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
