"""CTC forced alignment in numpy: the best path through a given token sequence, as voxkit.align.ctc finds it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from voxkit.align.spans import TokenSpan


def forced_align(log_probs: np.ndarray, tokens: Sequence[int], blank: int = 0) -> list[TokenSpan] | None:
    """Align one utterance.

    Args:
        log_probs: [T, V] normalized; tokens: without blanks.

    Returns:
        The frames of each token; None where there are more tokens (and blanks between equal ones) than frames.
    """
    frames, count = len(log_probs), len(tokens)
    if frames < count + sum(a == b for a, b in zip(tokens, tokens[1:])):
        return None
    if not count:
        return []
    labels = np.full(2 * count + 1, blank)
    labels[1::2] = tokens
    skips = np.zeros(len(labels), dtype=bool)  # a token may follow another one at once, if it is another
    skips[3::2] = labels[3::2] != labels[1:-2:2]
    emitted = log_probs[:, labels].astype(np.float64)
    score = np.full(len(labels), -np.inf)
    score[:2] = emitted[0, :2]
    moves = np.zeros((frames, len(labels)), dtype=np.int8)
    for t in range(1, frames):
        stay, step, skip = score, np.concatenate([[-np.inf], score[:-1]]), np.concatenate([[-np.inf, -np.inf], score[:-2]])
        skip = np.where(skips, skip, -np.inf)
        moves[t] = np.where(skip > np.maximum(stay, step), 2, np.where(step > stay, 1, 0))
        score = np.maximum(np.maximum(stay, step), skip) + emitted[t]
    state = len(labels) - 1 if score[-1] >= score[-2] else len(labels) - 2
    path = np.empty(frames, dtype=np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = state
        state -= int(moves[t, state])
    spans = []
    for place in range(1, len(labels), 2):
        at = np.flatnonzero(path == place)
        scores = emitted[at, place]
        spans.append(TokenSpan(int(labels[place]), int(at[0]), int(at[-1]) + 1, float(scores.mean()), float(scores.max())))
    return spans
