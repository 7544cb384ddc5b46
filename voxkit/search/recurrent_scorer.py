"""A recurrent language model in a beam: the state of every hypothesis is kept, so that a token costs one step."""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor

State = tuple[Tensor, Tensor, Tensor]


class RecurrentScorer:
    """`Scorer` of a recurrent model.

    Args:
        step: (tokens [N], two state tensors [N, ...] or None at the start) → log-probabilities of the next token [N, V], states.
        bos, eos: token ids.
    """

    def __init__(self, step: Callable, bos: int = 1, eos: int = 2) -> None:
        self.step, self.bos, self.eos, self.most = step, bos, eos, 0.0

    def init(self, size: int, device: torch.device) -> State:
        """States after bos: following [N, V], and the model's two."""
        following, (a, b) = self.step(torch.full((1,), self.bos, dtype=torch.long, device=device), None)
        return tuple(x.expand(size, *x.shape[1:]) for x in (following, a, b))  # type: ignore[return-value]

    def score(self, state: State, tokens: Tensor) -> Tensor:
        """tokens [N, K] → log P [N, K]."""
        return state[0].gather(1, tokens.clamp(min=0))

    def advance(self, state: State, tokens: Tensor) -> State:
        """States after tokens [N]; -1 leaves one as it is."""
        grown = tokens >= 0
        if not bool(grown.any()):
            return state
        following, (a, b) = self.step(tokens[grown], (state[1][grown], state[2][grown]))
        out = []
        for old, new in zip(state, (following, a, b)):
            old = old.clone()
            old[grown] = new.to(old.dtype)
            out.append(old)
        return tuple(out)  # type: ignore[return-value]

    def select(self, state: State, index: Tensor) -> State:
        """States of hypotheses index."""
        return tuple(x[index] for x in state)  # type: ignore[return-value]

    def final(self, state: State) -> Tensor:
        """log P(eos), [N]."""
        return state[0][:, self.eos]
