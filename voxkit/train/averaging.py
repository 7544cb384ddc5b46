"""A running average of the weights, kept while training (Polyak & Juditsky 1992). Averages over checkpoints: voxkit.checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from voxkit.checkpoint.format import checkpoint_state
from voxkit.train.config import AverageConfig


class RunningAverage:
    """Mean or exponential average, in float32, of what `checkpoint_state` gives; integers are copied.

    Args:
        model: its weights are the start.
        config: kind, every, decay, start.
    """

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        self.config = config
        self.count = 0
        self.state = {name: _start(value) for name, value in checkpoint_state(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights in after optimizer step `step`, where the configuration says so."""
        if step < self.config.start or step % self.config.every:
            return
        self.count += 1
        # The first update replaces the start, which a resumed run does not know; the ema warms up.
        share = 1 / self.count if self.config.kind == "mean" else 1 - min(self.config.decay, (self.count - 1) / (8 + self.count))
        for name, value in checkpoint_state(model).items():
            if self.state[name].is_floating_point():
                self.state[name].lerp_(value.to(torch.float32), share)
            else:
                self.state[name].copy_(value)

    def load(self, state: dict[str, Tensor], count: int) -> None:
        """Take up a saved average, tensor by tensor."""
        for name, value in self.state.items():
            value.copy_(state[name])
        self.count = count

    def restart(self, model: nn.Module) -> None:
        """Begin again at the model's weights."""
        self.load(checkpoint_state(model), 0)

    @contextlib.contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """The model has the average's weights inside the `with`."""
        own = {name: value.detach().clone() for name, value in checkpoint_state(model).items()}
        model.load_state_dict(self.state, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)


def _start(value: Tensor) -> Tensor:
    return value.detach().to(torch.float32, copy=True) if value.is_floating_point() else value.detach().clone()
