"""CTC prefix scores in numpy, for joint decoding: what voxkit.search.ctc_prefix computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FLOOR = -1e3  # instead of minus infinity, so that differences of sums stay numbers


@dataclass
class CtcPrefixState:
    """Of N hypotheses of one utterance: held, blanked [N, T] forward variables ending in the last token / in blank at each frame; last [N],
    -1 for the empty prefix; score [N] log-probability of the prefix."""

    held: np.ndarray
    blanked: np.ndarray
    last: np.ndarray
    score: np.ndarray

    def select(self, index: np.ndarray) -> CtcPrefixState:
        """States of hypotheses index [M]."""
        return CtcPrefixState(self.held[index], self.blanked[index], self.last[index], self.score[index])


class CtcPrefixScorer:
    """Prefix scores over log_probs [T, V] of one utterance, T at least 1."""

    def __init__(self, log_probs: np.ndarray, blank: int = 0) -> None:
        self.x = np.maximum(log_probs.astype(np.float64), _FLOOR).T  # [V, T]
        self.blank_sums = self.x[blank].cumsum()

    def init(self) -> CtcPrefixState:
        """The empty prefix, once."""
        blanked = self.blank_sums[None]
        return CtcPrefixState(np.full_like(blanked, -np.inf), blanked, np.array([-1]), np.zeros(1))

    def score(self, state: CtcPrefixState, tokens: np.ndarray) -> np.ndarray:
        """Log-probability of each prefix with one of tokens [N, K] more: [N, K]."""
        return np.logaddexp.reduce(self._before(state, tokens) + self.x[tokens], axis=2)

    def final(self, state: CtcPrefixState) -> np.ndarray:
        """Log-probability of each prefix as the whole labeling: [N]."""
        return np.logaddexp(state.held[:, -1], state.blanked[:, -1])

    def advance(self, state: CtcPrefixState, tokens: np.ndarray, scores: np.ndarray) -> CtcPrefixState:
        """States after tokens [N], whose prefix scores [N] `score` gave."""
        sums = self.x[tokens].cumsum(-1)
        before = self._before(state, tokens[:, None])[:, 0]
        held = sums + np.logaddexp.accumulate(before - _shift(sums, 0.0), axis=1)
        blanked = self.blank_sums + np.logaddexp.accumulate(_shift(held, -np.inf) - _shift(self.blank_sums[None], 0.0), axis=1)
        return CtcPrefixState(held, blanked, tokens, scores)

    def _before(self, state: CtcPrefixState, tokens: np.ndarray) -> np.ndarray:
        """[N, K, T]: the prefix is complete one frame earlier, and a token of K may begin at this one."""
        start = np.where(state.last < 0, 0.0, -np.inf)[:, None]
        both = np.concatenate([start, np.logaddexp(state.held, state.blanked)[:, :-1]], axis=1)
        blanked = np.concatenate([start, state.blanked[:, :-1]], axis=1)
        return np.where((tokens == state.last[:, None])[..., None], blanked[:, None], both[:, None])


def _shift(x: np.ndarray, first: float) -> np.ndarray:
    return np.concatenate([np.full_like(x[:, :1], first), x[:, :-1]], axis=1)
