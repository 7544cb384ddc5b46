"""CTC greedy search: the best token of every frame, repetitions and blanks taken out (Graves et al. 2006)."""

from __future__ import annotations

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_frames
from voxkit.search.hypotheses import CtcHypothesis


@torch.no_grad()
def ctc_greedy(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> list[CtcHypothesis]:
    """Decode a batch.

    Args:
        log_probs: [B, T, V], normalised.
        lengths: [B] valid frames.

    Returns:
        One hypothesis per utterance; `score` is the log-probability of the best path, `token_log_probs` the best frame of
        each token's run.
    """
    check_frames(log_probs, lengths, blank)
    size, frames, _ = log_probs.shape
    if frames == 0:
        return [CtcHypothesis([], 0.0) for _ in range(size)]
    mask = lengths_to_mask(lengths, frames)
    best, path = log_probs.float().max(-1)
    path = path.masked_fill(~mask, blank)
    scores = best.masked_fill(~mask, 0.0).sum(1)
    starts = path != blank
    starts[:, 1:] &= path[:, 1:] != path[:, :-1]
    # every frame of a run carries the index of its token; runs share one maximum
    run = (starts.flatten().cumsum(0) - 1).clamp(min=0)
    inside = (path != blank).flatten()
    peaks = best.new_full((int(starts.sum()),), -torch.inf)
    peaks.scatter_reduce_(0, run[inside], best.flatten()[inside], "amax")
    item, frame = starts.nonzero(as_tuple=True)
    tokens, counts = path[item, frame].tolist(), starts.sum(1).tolist()
    frame, peaks = frame.tolist(), peaks.tolist()
    out, at = [], 0
    for count, score in zip(counts, scores.tolist()):
        part = slice(at, at + count)
        out.append(CtcHypothesis(tokens[part], score, frame[part], peaks[part], score))
        at += count
    return out
