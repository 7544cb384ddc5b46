"""CTC greedy search in numpy: what voxkit.search.greedy does, without torch, of a whole utterance or chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from voxkit.search.hypotheses import CtcHypothesis


@dataclass
class GreedyState:
    """The best path so far.

    Attributes:
        last, peak: token of the last frame (the blank before the first), and the highest log-probability of its run.
        score: of the path; frames: consumed. tokens, starts, peaks: found so far, the frame where each begins, its highest log-probability.
    """

    last: int
    peak: float = 0.0
    score: float = 0.0
    frames: int = 0
    tokens: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)


class Greedy:
    """The search. `init`, `advance`, `nbest` as of the prefix beam.

    Args:
        blank: its id.
    """

    def __init__(self, blank: int = 0) -> None:
        self.blank = blank

    def init(self) -> GreedyState:
        """Before the first frame."""
        return GreedyState(self.blank)

    def advance(self, state: GreedyState, log_probs: np.ndarray) -> GreedyState:
        """Consume frames log_probs [T, V]; the state is changed and returned."""
        if not len(log_probs):
            return state
        path, best = log_probs.argmax(-1), log_probs.max(-1).astype(np.float64)
        state.score += float(best.sum())
        inside = path != self.blank
        first = inside & (path != np.concatenate([[state.last], path[:-1]]))
        runs = np.cumsum(first)  # 0: goes on from the chunk before
        peaks = np.full(int(runs[-1]) + 1, -np.inf)
        np.maximum.at(peaks, runs[inside], best[inside])
        if state.last != self.blank and inside[0] and not first[0]:
            state.peaks[-1] = max(state.peaks[-1], float(peaks[0]))
        at = np.flatnonzero(first)
        state.tokens += path[at].tolist()
        state.starts += (at + state.frames).tolist()
        state.peaks += peaks[1:].tolist()
        state.last, state.frames = int(path[-1]), state.frames + len(path)
        return state

    def nbest(self, state: GreedyState, nbest: int = 1, *, final: bool = True) -> list[CtcHypothesis]:
        """The one hypothesis; `nbest` and `final` make no difference."""
        return [CtcHypothesis(list(state.tokens), state.score, list(state.starts), list(state.peaks), state.score)]
