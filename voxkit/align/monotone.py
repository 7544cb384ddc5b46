"""Words in their order along the frames of an utterance, with pauses between them where nobody speaks.

DTW has no place for a pause: every frame belongs to some word, so that the one before a pause takes it. Here a path goes through
pause, word 1, pause, word 2, ... pause; words take a frame at least, pauses may be left out.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from torch import Tensor


@torch.no_grad()
def monotone_path(words: Tensor, pause: Tensor, shortest: int = 1) -> list[tuple[int, int]]:
    """The best path through the frames of one utterance.

    Args:
        words: [W, T] log-probability that a frame belongs to a word; pause: [T] that it belongs to none.
        shortest: frames of a word at least; fewer where the utterance has not as many for all.

    Returns:
        the first frame of each word, and the one after its last.

    Raises:
        ValueError: fewer frames than words, or shapes that do not belong together.
    """
    if words.dim() != 2 or pause.shape != words.shape[1:]:
        raise ValueError(f"words {tuple(words.shape)} and pause {tuple(pause.shape)}: [W, T] and [T] are needed")
    count, frames = words.shape
    if count == 0:
        return []
    if frames < count:
        raise ValueError(f"{count} words in {frames} frames: every word takes a frame at least")
    shortest = max(1, min(shortest, frames // count))
    scores = words.double().cpu().numpy()
    silent = pause.double().cpu().numpy()
    sums = np.concatenate([np.zeros((count, 1)), scores.cumsum(1)], axis=1)  # [W, T + 1]
    # state 2u: after word u - 1, in the pause before word u; state 2u + 1: in word u, whose least frames are behind it
    best = np.full((count * 2 + 1, frames + 1), -np.inf)
    came = np.zeros((count * 2 + 1, frames + 1), dtype=np.int8)  # 1: from the state before, 0: stayed, 2: passed over the pause
    best[0] = np.concatenate([[0.0], silent.cumsum()])
    word = np.arange(count)
    for t in range(1, frames + 1):
        if t >= shortest:
            entry = best[0:-1:2, t - shortest]  # the pause before
            skipped = np.concatenate([[-np.inf], best[1:-2:2, t - shortest]])  # the word before, without a pause
            gained = sums[word, t] - sums[word, t - shortest]
            stay = best[1::2, t - 1] + scores[word, t - 1]
            choices = np.stack([stay, entry + gained, skipped + gained])
            step = choices.argmax(0)
            best[1::2, t], came[1::2, t] = choices[step, word], step
        stay, enter = best[2::2, t - 1], best[1::2, t - 1]  # in the pause behind each word
        best[2::2, t], came[2::2, t] = np.maximum(stay, enter) + silent[t - 1], enter > stay
    return _back(best, came, count, frames, shortest)


def _back(best: np.ndarray, came: np.ndarray, count: int, frames: int, shortest: int) -> list[tuple[int, int]]:
    """From the end to the beginning."""
    state = 2 * count if best[2 * count, frames] > best[2 * count - 1, frames] else 2 * count - 1
    t, out, end = frames, [], frames
    while state > 0:
        step = came[state, t]
        if state % 2 == 0:
            state, t = state - int(step), t - 1
            end = t if step else end
        elif step == 0:
            t -= 1
        else:
            t -= shortest
            out.append((t, end))
            state, end = state - int(step), t
    return out[::-1]


def refine(path: Sequence[tuple[int, int]], words: Tensor, pause: Tensor, shortest: float = 0.5) -> list[tuple[float, float]]:
    """Boundaries within frames: a frame that two share belongs to each by as much as it is likely to.

    Args:
        path: of `monotone_path` with the same words [W, T] and pause [T].
        shortest: frames that a word keeps at least.

    Returns:
        start and end of each word in frames; in order, none overlaps another.
    """
    p, silent = words.double().exp().cpu().numpy(), pause.double().exp().cpu().numpy()
    frames = p.shape[1]

    def boundary(at: int, left: np.ndarray, right: np.ndarray) -> float:
        """Between frames at - 1 and at: how much of both is the left one's."""
        near = [t for t in (at - 1, at) if 0 <= t < frames]
        return near[0] + sum(left[t] / max(left[t] + right[t], 1e-30) for t in near)

    out: list[tuple[float, float]] = []
    for u, (start, end) in enumerate(path):
        glued = u > 0 and path[u - 1][1] == start
        begin = out[-1][1] if glued else boundary(start, silent, p[u])
        follows = p[u + 1] if u + 1 < len(path) and path[u + 1][0] == end else silent
        stop = boundary(end, p[u], follows)
        if out:
            begin = max(begin, out[-1][1])
        out.append((begin, max(stop, begin + shortest)))
    # a word that was stretched may have passed the end: push back from there
    latest = float(frames)
    for u in range(len(out) - 1, -1, -1):
        begin, stop = out[u]
        stop = min(stop, latest)
        begin = min(begin, stop - min(shortest, stop / (u + 1)))
        out[u], latest = (begin, stop), begin
    return out
