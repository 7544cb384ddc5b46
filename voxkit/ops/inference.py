"""Calls that cannot work in torch's inference mode."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable, TypeVar

import torch
from torch import Tensor

_Call = TypeVar("_Call", bound=Callable[..., Any])


def outside_inference_mode(function: _Call) -> _Call:
    """Decorator: where inference mode is on, the function runs outside it, without gradients, on copies of its tensors.

    For what reads version counters (k2's FSAs), which tensors made in inference mode lack.
    """

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            return function(*map(_normal, args), **{name: _normal(value) for name, value in kwargs.items()})

    return run  # type: ignore[return-value]


def _normal(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value
