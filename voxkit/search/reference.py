"""Plain, slow, obviously right: what the fast searches are tested against."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Callable, Sequence


def logaddexp(a: float, b: float) -> float:
    """log(exp(a) + exp(b)), minus infinity allowed."""
    if a == -math.inf or b == -math.inf:
        return max(a, b)
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def ctc_exhaustive(log_probs: Sequence[Sequence[float]], blank: int = 0) -> dict[tuple[int, ...], float]:
    """Log-probability of every token sequence, summed over all V^T paths of one utterance [T, V]; tiny inputs only."""
    out: dict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(len(log_probs[0])), repeat=len(log_probs)):
        tokens = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        out[tokens] = logaddexp(out[tokens], sum(frame[k] for frame, k in zip(log_probs, path)))
    return dict(out)


def ctc_prefix_beam_reference(log_probs: Sequence[Sequence[float]], beam: int, blank: int = 0,
                              fused: Callable[[tuple[int, ...]], float] = lambda prefix: 0.0) -> list[tuple[tuple[int, ...], float]]:
    """Prefix beam search of one utterance [T, V] with dictionaries (Graves & Jaitly 2014; Hannun et al. 2014).

    Args:
        fused: what scorers give a whole prefix.

    Returns:
        (tokens, CTC log-probability + fused), best first.
    """
    beams = {(): (0.0, -math.inf)}  # prefix → (ends in blank, ends in its last token)
    for frame in log_probs:
        following: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [-math.inf, -math.inf])
        for prefix, (blanked, held) in beams.items():
            total = logaddexp(blanked, held)
            for token, p in enumerate(frame):
                if token == blank:
                    following[prefix][0] = logaddexp(following[prefix][0], total + p)
                elif prefix and token == prefix[-1]:
                    following[prefix][1] = logaddexp(following[prefix][1], held + p)
                    longer = following[prefix + (token,)]
                    longer[1] = logaddexp(longer[1], blanked + p)
                else:
                    longer = following[prefix + (token,)]
                    longer[1] = logaddexp(longer[1], total + p)
        ranked = sorted(following.items(), key=lambda item: -(logaddexp(*item[1]) + fused(item[0])))
        beams = {prefix: (x, y) for prefix, (x, y) in ranked[:beam]}
    return sorted(((prefix, logaddexp(*xy) + fused(prefix)) for prefix, xy in beams.items()), key=lambda item: -item[1])
