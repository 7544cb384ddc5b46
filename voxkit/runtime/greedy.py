"""CTC greedy search in numpy: what voxkit.search.greedy does, without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Path(NamedTuple):
    """Tokens, the frames each begins at and ends before, the log-probability of its best frame, and that of the whole path."""

    tokens: list[int]
    starts: list[int]
    ends: list[int]
    token_log_probs: list[float]
    score: float


def ctc_greedy(log_probs: np.ndarray, blank: int = 0) -> Path:
    """log_probs [T, V] of one utterance → the best token of every frame, repetitions and blanks taken out."""
    if not len(log_probs):
        return Path([], [], [], [], 0.0)
    path, best = log_probs.argmax(-1), log_probs.max(-1)
    inside = path != blank
    changed = path[1:] != path[:-1]
    first, last = inside.copy(), inside.copy()
    first[1:] &= changed
    last[:-1] &= changed
    starts = np.flatnonzero(first)
    peaks = np.full(len(starts), -np.inf, dtype=best.dtype)
    np.maximum.at(peaks, np.cumsum(first)[inside] - 1, best[inside])
    return Path(path[starts].tolist(), starts.tolist(), (np.flatnonzero(last) + 1).tolist(), peaks.tolist(), float(best.sum()))
