"""Drawing codes from logits: temperature, top-k, nucleus, repetition window; each sequence has random numbers of its own.

The number that decides a code follows from the sequence's seed, the frame and the book alone. A batch therefore gives what its sequences
give alone, and a resumed stream what an unbroken one gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingOptions:
    """Attributes:
    temperature: logits are divided by it; 0 = greedy, the likeliest code.
    top_k: only so many likeliest codes; 0 = all.
    top_p: only the fewest likeliest codes that together have this probability (Holtzman et al. 2020).
    repetition_window: frames; a code that its book has said in them loses `repetition_penalty` from its logit. 0 = off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_window: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature: {self.temperature} is below 0")
        if self.top_k < 0 or self.repetition_window < 0:
            raise ValueError(f"top_k: {self.top_k} and repetition_window: {self.repetition_window}: neither is below 0; 0 is off")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: {self.top_p} is not above 0 and up to 1")


def uniform(seeds: Sequence[int], frame: int, books: int) -> Tensor:
    """[B, books] numbers in [0, 1) for one frame of each sequence."""
    rows = [np.random.Generator(np.random.Philox(key=seed & (2**64 - 1), counter=[0, 0, 0, frame])).random(books) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def filtered(logits: Tensor, options: SamplingOptions, recent: Tensor | None = None) -> Tensor:
    """Logits [B, K] → log-probabilities [B, K] of what may be drawn, -inf for the rest.

    Args:
        recent: [B, W] what the book said in the window before.
    """
    logits = logits.double()
    if recent is not None and recent.shape[1]:
        said = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, recent, True)
        logits = logits - options.repetition_penalty * said
    logits = logits / options.temperature
    if 0 < options.top_k < logits.shape[1]:
        logits = logits.masked_fill(logits < logits.topk(options.top_k).values[:, -1:], float("-inf"))
    if options.top_p < 1:
        ordered, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        beyond = ordered.cumsum(-1) - ordered >= options.top_p  # the first that reaches it stays
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), float("-inf"))
    return logits.log_softmax(-1)


def draw(logits: Tensor, numbers: Tensor, options: SamplingOptions, recent: Tensor | None = None) -> Tensor:
    """Logits [B, K], numbers [B] in [0, 1) → codes [B]."""
    if options.temperature == 0:
        if recent is not None and recent.shape[1]:
            said = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, recent, True)
            logits = logits - options.repetition_penalty * said
        return logits.argmax(-1)
    p = filtered(logits, options, recent).exp()
    below = p.cumsum(-1)
    place = (below <= numbers[:, None].to(p) * below[:, -1:]).sum(-1)
    last = p.shape[1] - 1 - (p.flip(-1) > 0).to(torch.uint8).argmax(-1)  # of those that may be drawn: the sum may fall short of 1
    return torch.minimum(place, last)
