"""What a run does about the usual accidents: losses that are not finite, divergence, too little memory."""

from __future__ import annotations

from typing import Any

import torch

from voxkit.batch import Batch
from voxkit.train.config import RemedyConfig


class NonFiniteLoss(ValueError):
    """A loss or gradient is not finite and the configuration says stop."""


class Diverged(ValueError):
    """The loss ran away; the loop goes back to a checkpoint, or this ends the run."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def split(batch: Batch, pieces: int) -> list[Batch]:
    """A batch cut into at most `pieces` parts of about the same number of utterances."""
    pieces = min(pieces, batch.size)
    if pieces <= 1:
        return [batch]
    bounds = [round(i * batch.size / pieces) for i in range(pieces + 1)]
    return [batch.take(slice(a, b)) for a, b in zip(bounds, bounds[1:])]


@torch.no_grad()
def find_culprits(model: Any, batch: Batch) -> list[str]:
    """Ids of the utterances whose own loss is not finite; of all, where each alone is fine (then it is the batch or the weights).

    The model is asked in eval mode: neither its buffers nor the random generators move.
    """
    training = model.training
    model.eval()
    culprits = [batch.ids[i] for i in range(batch.size) if not torch.isfinite(model.loss(batch.take(slice(i, i + 1))).total).all()]
    model.train(training)
    return culprits or list(batch.ids)


class DivergenceWatch:
    """Smooths the loss and says when it has run away.

    Diverged is: above `divergence_factor` times its lowest smoothed value *and* above half of its first, so that noise at the end of
    a run whose loss is near zero counts as noise.

    Args:
        config: factor and window.
        values: a dict to keep its few numbers in; the loop gives one that is saved with the run.
    """

    def __init__(self, config: RemedyConfig, values: dict[str, float]) -> None:
        self.config = config
        self.values = values

    def update(self, loss: float) -> bool:
        """Take one finite loss in.

        Returns:
            Whether it has diverged.
        """
        v, window = self.values, self.config.divergence_window
        count = v["count"] = v.get("count", 0) + 1
        share = 1 / min(count, window)
        v["smooth"] = v.get("smooth", 0.0) + share * (loss - v.get("smooth", 0.0))
        if count < window:
            return False
        first = v.setdefault("first", v["smooth"])
        best = v["best"] = min(v.get("best", v["smooth"]), v["smooth"])
        return best > 0 and v["smooth"] > self.config.divergence_factor * best and v["smooth"] > 0.5 * first

    def __str__(self) -> str:
        return f"{self.values['smooth']:.3g} now, {self.values['best']:.3g} at its best (means over {self.config.divergence_window} steps)"


def oom_advice(batch: Batch) -> str:
    """What to tell a user whose batch does not fit."""
    shape = list(batch.input.values.shape)
    return (f"out of memory on a batch of {batch.size} utterances, {batch.seconds:.0f} s, {shape} (longest: {_longest(batch)}); "
            "lower data.max_duration and raise train.accumulate by as much, or set data.max_duration=auto")


def _longest(batch: Batch) -> str:
    return batch.ids[int(batch.input.lengths.argmax())]
