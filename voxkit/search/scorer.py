"""Scorers: what adds to a hypothesis token by token, for all hypotheses of all beams at once.

An n-gram model, a context graph of phrases, a neural language model: each keeps a state per hypothesis (N of them, in any
order) and answers for K candidate tokens of each. Searches know only this interface.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Protocol, Sequence

import torch
from torch import Tensor


class Scorer(Protocol):
    """The interface. A state is whatever `select` can reorder; tokens are ids without blank.

    Attributes:
        most: what one token, or the end, can add at the most: a search that knows it ends no earlier than it may.
    """

    most: float

    def init(self, size: int, device: torch.device) -> Any:
        """States of `size` empty hypotheses."""

    def score(self, state: Any, tokens: Tensor) -> Tensor:
        """What each candidate adds: tokens [N, K] → [N, K] (natural log, weight included)."""

    def advance(self, state: Any, tokens: Tensor) -> Any:
        """States after tokens [N]; -1 leaves a state as it is."""

    def select(self, state: Any, index: Tensor) -> Any:
        """States of hypotheses index [M], repeats allowed."""

    def final(self, state: Any) -> Tensor:
        """What the end of the utterance adds: [N] (end of sentence; partial phrases taken back)."""


class Weighted:
    """A scorer times a weight, plus a bonus per token (against short hypotheses)."""

    def __init__(self, scorer: Scorer, weight: float = 1.0, bonus: float = 0.0) -> None:
        self.scorer, self.weight, self.bonus = scorer, weight, bonus
        self.most = weight * scorer.most + max(bonus, 0.0) if weight >= 0 else math.inf

    def init(self, size: int, device: torch.device) -> Any:
        return self.scorer.init(size, device)

    def score(self, state: Any, tokens: Tensor) -> Tensor:
        return self.scorer.score(state, tokens) * self.weight + self.bonus

    def advance(self, state: Any, tokens: Tensor) -> Any:
        return self.scorer.advance(state, tokens)

    def select(self, state: Any, index: Tensor) -> Any:
        return self.scorer.select(state, index)

    def final(self, state: Any) -> Tensor:
        return self.scorer.final(state) * self.weight


class Together:
    """Several scorers, added."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        if not scorers:
            raise ValueError("no scorers given: pass None to a search that needs none")
        self.scorers = list(scorers)
        self.most: float = sum(s.most for s in self.scorers)

    def init(self, size: int, device: torch.device) -> list:
        return [s.init(size, device) for s in self.scorers]

    def score(self, state: list, tokens: Tensor) -> Tensor:
        return sum(s.score(x, tokens) for s, x in zip(self.scorers, state))

    def advance(self, state: list, tokens: Tensor) -> list:
        return [s.advance(x, tokens) for s, x in zip(self.scorers, state)]

    def select(self, state: list, index: Tensor) -> list:
        return [s.select(x, index) for s, x in zip(self.scorers, state)]

    def final(self, state: list) -> Tensor:
        return sum(s.final(x) for s, x in zip(self.scorers, state))


class TokenBonus:
    """A constant per token, against short hypotheses."""

    def __init__(self, bonus: float) -> None:
        self.bonus, self.most = bonus, max(bonus, 0.0)

    def init(self, size: int, device: torch.device) -> Tensor:
        return torch.zeros(size, device=device)

    def score(self, state: Tensor, tokens: Tensor) -> Tensor:
        return state.new_full(tokens.shape, self.bonus)

    def advance(self, state: Tensor, tokens: Tensor) -> Tensor:
        return state

    def select(self, state: Tensor, index: Tensor) -> Tensor:
        return state[index]

    def final(self, state: Tensor) -> Tensor:
        return state


def combine(lm: Scorer | None = None, lm_weight: float = 0.3, *, context: Scorer | None = None, bonus: float = 0.0) -> Scorer | None:
    """The usual scorer: language model times weight, context graph (whose boosts are its weights), bonus per token; None if none."""
    parts: list[Scorer] = []
    if lm is not None and lm_weight:
        parts.append(Weighted(lm, lm_weight, bonus))
    elif bonus:
        parts.append(TokenBonus(bonus))
    if context is not None:
        parts.append(context)
    return None if not parts else parts[0] if len(parts) == 1 else Together(parts)


class NeuralScorer:
    """A neural language model, run on the whole prefix of every hypothesis that grew (shallow fusion, Gulcehre et al. 2015).

    Hypotheses of a CTC beam differ in length, so the state is the token history itself, and a cache is the model's affair.

    Args:
        log_probs: (tokens [N, U] beginning with bos, lengths [N]) → log-probabilities of the next token [N, V].
        bos, eos: token ids; eos None where the model has no end of sentence.
    """

    def __init__(self, log_probs: Callable[[Tensor, Tensor], Tensor], bos: int = 1, eos: int | None = 2) -> None:
        self.log_probs, self.bos, self.eos, self.most = log_probs, bos, eos, 0.0

    def init(self, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        history = torch.full((1, 1), self.bos, dtype=torch.long, device=device)
        lengths = torch.ones(1, dtype=torch.long, device=device)
        following = self.log_probs(history, lengths)
        return history.expand(size, -1), lengths.expand(size), following.expand(size, -1)

    def score(self, state: tuple[Tensor, Tensor, Tensor], tokens: Tensor) -> Tensor:
        return state[2].gather(1, tokens)

    def advance(self, state: tuple[Tensor, Tensor, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        history, lengths, following = state
        grown = tokens >= 0
        if not bool(grown.any()):
            return state
        lengths = lengths + grown
        width = int(lengths.max())
        history = torch.nn.functional.pad(history, (0, max(0, width - history.shape[1])))[:, :width].clone()
        history[grown, lengths[grown] - 1] = tokens[grown]
        following = following.clone()
        following[grown] = self.log_probs(history[grown], lengths[grown]).to(following.dtype)
        return history, lengths, following

    def select(self, state: tuple[Tensor, Tensor, Tensor], index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return state[0][index], state[1][index], state[2][index]

    def final(self, state: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return state[2][:, self.eos] if self.eos is not None else state[2].new_zeros(state[2].shape[0])
