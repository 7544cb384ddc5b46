"""CTC greedy search in numpy: what voxkit.search.greedy does, without torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Path(NamedTuple):
    """Tokens, the frame each begins at, the log-probability of its best frame, and that of the whole path."""

    tokens: list[int]
    frames: list[int]
    token_log_probs: list[float]
    score: float


def ctc_greedy(log_probs: np.ndarray, blank: int = 0) -> Path:
    """log_probs [T, V] of one utterance → the best token of every frame, repetitions and blanks taken out."""
    if not len(log_probs):
        return Path([], [], [], 0.0)
    path, best = log_probs.argmax(-1), log_probs.max(-1)
    starts = path != blank
    starts[1:] &= path[1:] != path[:-1]
    frames = np.flatnonzero(starts)
    inside = path != blank
    run = np.cumsum(starts) - 1
    peaks = np.full(len(frames), -np.inf, dtype=best.dtype)
    np.maximum.at(peaks, run[inside], best[inside])
    return Path(path[frames].tolist(), frames.tolist(), peaks.tolist(), float(best.sum()))
