"""Where a beam's tokens are: the frame at which each is the most certain."""

from __future__ import annotations

import numpy as np


def token_peaks(posteriors: np.ndarray, tokens: list[int], starts: list[int]) -> tuple[list[int], list[float]]:
    """For each token the frame of its highest posterior between its first appearance and the next token's, and that posterior.

    Args:
        posteriors: [T, V]; tokens: at least one; starts: where each appeared first, rising.
    """
    first, end = starts[0], len(posteriors)
    places = np.asarray(starts) - first
    sizes = np.diff(places, append=end - first)
    values = posteriors[np.arange(first, end), np.repeat(tokens, sizes)]
    best = np.maximum.reduceat(values, places)
    hits = np.flatnonzero(values == np.repeat(best, sizes))
    return (hits[np.searchsorted(hits, places)] + first).tolist(), best.tolist()


def backtrace(parents: np.ndarray, tokens: np.ndarray, frames: np.ndarray, width: int, node: int) -> tuple[list[int], list[int]]:
    """The tokens of a prefix and the frames of their first appearance.

    Args:
        parents, tokens: [S · W] of the prefixes that were new in S steps with W slots; frames: [S].
        node: 1 + its place there, 0 for the empty prefix.
    """
    path = []
    while node:
        path.append(node - 1)
        node = int(parents[node - 1])
    path.reverse()
    return tokens[path].tolist(), frames[[p // width for p in path]].tolist()
