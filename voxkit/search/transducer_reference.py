"""Plain, slow, obviously right: what the transducer's searches are tested against and timed beside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from voxkit.search.reference import logaddexp

LogProbs = Callable[[int, tuple[int, ...]], Sequence[float]]  # (frame, all that was said) → [V]


class ReferencePath(NamedTuple):
    """tokens, the frame that emits each, log-probability."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    score: float


def greedy_reference(log_probs: LogProbs, frames: int, symbols: int = 1, blank: int = 0) -> ReferencePath:
    """Frame by frame the most likely step, until blank or `symbols` tokens."""
    tokens: tuple[int, ...] = ()
    places, score = [], 0.0
    for t in range(frames):
        for _ in range(symbols):
            row = log_probs(t, tokens)
            best = max(range(len(row)), key=row.__getitem__)
            score += row[best]
            if best == blank:
                break
            tokens += (best,)
            places.append(t)
    return ReferencePath(tokens, tuple(places), score)


def beam_reference(log_probs: LogProbs, frames: int, beam: int, blank: int = 0,
                   fused: Callable[[tuple[int, ...]], float] = lambda tokens: 0.0) -> list[ReferencePath]:
    """At most one token a frame, equal texts summed, with a dictionary.

    Args:
        fused: what scorers give all that was said; it counts in ranking and score.

    Returns:
        Best first. A text's last frame is that of its more likely arrival.
    """
    beams = {(): ((), 0.0)}  # tokens → frames, log-probability
    for t in range(frames):
        following: dict[tuple[int, ...], tuple[tuple[int, ...], float]] = {}
        arrived: dict[tuple[int, ...], float] = {}  # the most likely summand
        for tokens, (places, score) in beams.items():
            for token, p in enumerate(log_probs(t, tokens)):
                text, at = (tokens, places) if token == blank else (tokens + (token,), places + (t,))
                before = following.get(text, ((), -math.inf))
                if score + p > arrived.get(text, -math.inf):
                    arrived[text] = score + p
                    before = (at, before[1])
                following[text] = (before[0], logaddexp(before[1], score + p))
        ranked = sorted(following.items(), key=lambda item: -(item[1][1] + fused(item[0])))
        beams = dict(ranked[:beam])
    paths = (ReferencePath(tokens, at, score + fused(tokens)) for tokens, (at, score) in beams.items())
    return sorted(paths, key=lambda path: -path.score)


def exhaustive(log_probs: LogProbs, frames: int, vocab: int, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Log-probability of every text, summed over all paths with at most one token a frame; tiny inputs only."""
    out: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(vocab), repeat=frames):
        tokens, score = (), 0.0
        for t, token in enumerate(path):
            score += log_probs(t, tokens)[token]
            tokens += (token,) if token != blank else ()
        out[tokens] = logaddexp(out.get(tokens, -math.inf), score)
    return out
