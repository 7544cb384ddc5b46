"""CTC greedy search: the best token of every frame, repetitions and blanks taken out (Graves et al. 2006).

    best = ctc_greedy(log_probs, lengths)[0].tokens

Streaming: `search = Greedy()`, `state = search.init(B)`, `state = search.advance(state, chunk, lengths)`, `search.nbest(state)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_frames
from voxkit.search.hypotheses import CtcHypothesis


@dataclass
class GreedyState:
    """The best paths of B utterances; opaque to callers.

    Attributes:
        last, peak: [B] token of the last frame (blank before the first), and the highest log-probability of its run.
        score: [B] log-probability of the path. frames: [B] frames consumed.
        found: per utterance its tokens, the frame where each begins, the log-probability of each.
    """

    last: Tensor
    peak: Tensor
    score: Tensor
    frames: Tensor
    found: list[tuple[list[int], list[int], list[float]]] = field(default_factory=list)


class Greedy:
    """The search.

    Args:
        blank: its id.
    """

    def __init__(self, blank: int = 0) -> None:
        self.blank = blank

    def init(self, size: int, device: torch.device | str = "cpu") -> GreedyState:
        """Paths of `size` utterances before their first frame."""
        zeros, count = torch.zeros(size, device=device), torch.zeros(size, dtype=torch.long, device=device)
        return GreedyState(torch.full_like(count, self.blank), zeros, zeros, count, [([], [], []) for _ in range(size)])

    @torch.no_grad()
    def advance(self, state: GreedyState, log_probs: Tensor, lengths: Tensor) -> GreedyState:
        """Consume frames: log_probs [B, T, V] normalized, lengths [B] valid ones → the state after them."""
        check_frames(log_probs, lengths, self.blank)
        frames = log_probs.shape[1]
        if frames == 0:
            return state
        mask = lengths_to_mask(lengths, frames)
        best, path = log_probs.float().max(-1)
        score = state.score + best.masked_fill(~mask, 0.0).sum(1)
        # the frame before, so that a run goes on across chunks
        path = torch.cat((state.last[:, None], path.masked_fill(~mask, self.blank)), dim=1)
        best = torch.cat((state.peak[:, None], best), dim=1)
        starts = path != self.blank
        starts[:, 1:] &= path[:, 1:] != path[:, :-1]
        # every frame of a run carries the index of its token; runs share one maximum
        run = (starts.flatten().cumsum(0) - 1).clamp(min=0)
        inside = (path != self.blank).flatten()
        peaks = best.new_full((int(starts.sum()) + 1,), -torch.inf)  # the last one: of no run
        peaks.scatter_reduce_(0, run[inside], best.flatten()[inside], "amax")
        item, frame = starts.nonzero(as_tuple=True)
        at = state.frames[item] + frame - 1
        new = _split(starts.sum(1).tolist(), path[item, frame].tolist(), at.tolist(), peaks.tolist())
        last = path.gather(1, lengths[:, None])
        peak = torch.where(last != self.blank, peaks[run.view_as(path).gather(1, lengths[:, None])], 0.0)
        found = [_go_on(old, part) if going else tuple(o + p for o, p in zip(old, part))
                 for old, part, going in zip(state.found, new, (state.last != self.blank).tolist())]
        return GreedyState(last[:, 0], peak[:, 0], score, state.frames + lengths, found)

    def nbest(self, state: GreedyState, nbest: int = 1, *, final: bool = True) -> list[list[CtcHypothesis]]:
        """The one hypothesis of each utterance, as of the other searches; `final` makes no difference."""
        return [[CtcHypothesis(list(tokens), score, list(frames), list(peaks), score)]
                for (tokens, frames, peaks), score in zip(state.found, state.score.tolist())]


def ctc_greedy(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> list[CtcHypothesis]:
    """Decode a batch.

    Args:
        log_probs: [B, T, V], normalized.
        lengths: [B] valid frames.

    Returns:
        One hypothesis per utterance; `score` is the log-probability of the best path, `token_log_probs` the best frame of
        each token's run.
    """
    search = Greedy(blank)
    state = search.advance(search.init(log_probs.shape[0], log_probs.device), log_probs, lengths)
    return [row[0] for row in search.nbest(state)]


def _split(counts: list[int], *values: list) -> list[tuple[list, ...]]:
    """Values of all utterances, one after the other → those of each."""
    out, at = [], 0
    for count in counts:
        out.append(tuple(v[at:at + count] for v in values))
        at += count
    return out


def _go_on(old: tuple, part: tuple) -> tuple:
    """Tokens found so far and in a chunk whose first one is the last of before: it keeps its frame and gets the higher peak."""
    (tokens, frames, peaks), (new_tokens, new_frames, new_peaks) = old, part
    return tokens + new_tokens[1:], frames + new_frames[1:], peaks[:-1] + new_peaks
