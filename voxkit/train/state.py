"""Where a run stands: everything a resumed run needs besides tensors. Plain values, so that it can be read and compared."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

import numpy as np
import torch


@dataclass
class TrainState:
    """Attributes:
    step: optimizer steps done; epoch: epochs done.
    batches: batches of the current epoch that are used up, by the process that has most.
    seconds: of audio trained on.
    skipped, skipped_in_a_row: steps dropped for a loss or gradient that was not finite.
    halvings: of the learning rate, after divergences; rate_scale: their product.
    pieces: into how many parts each batch is cut, after running out of memory.
    best: best value of the metric so far; since_best: validations since then.
    history: of validations, {"step", "epoch", metric: value, ...}.
    window: sums of the losses since the last line of the log.
    watch: of the divergence watch.
    unmeasured: a validation is due here and has not been made: a run that is resumed begins with it.
    """

    step: int = 0
    epoch: int = 0
    batches: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    halvings: int = 0
    rate_scale: float = 1.0
    pieces: int = 1
    best: float | None = None
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    window: dict[str, float] = field(default_factory=dict)
    watch: dict[str, float] = field(default_factory=dict)
    unmeasured: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainState:
        """From JSON; keys of other versions are left out."""
        return cls(**{k: v for k, v in values.items() if k in {f.name for f in fields(cls)}})


def random_state() -> dict[str, Any]:
    """State of the generators of Python, numpy, torch and CUDA, in plain values and tensors."""
    name, keys, position, has_gauss, cached = cast(tuple, np.random.get_state())
    state = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators back; CUDA's only where there is one in both."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextlib.contextmanager
def undisturbed_random_state() -> Iterator[None]:
    """The generators are after the `with` as they were before."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
