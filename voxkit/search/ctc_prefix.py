"""CTC prefix scores for joint decoding (Watanabe et al. 2017, algorithm 2), without a loop over frames.

The probability that the labeling begins with a prefix g·c is a sum over the frame where c begins; the forward variables of
the chosen extension are linear recurrences, which a cumulative log-sum-exp solves at once. In float64: over a long
utterance the sums run far from zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask

_FLOOR = -1e3  # instead of minus infinity, so that differences of sums stay numbers


@dataclass
class CtcPrefixState:
    """Of N hypotheses: held, blanked [N, T] forward variables ending in the last token / in blank at each frame; last [N], -1 for
    the empty prefix; score [N] log-probability of the prefix; item [N] row of the batch."""

    held: Tensor
    blanked: Tensor
    last: Tensor
    score: Tensor
    item: Tensor

    def select(self, index: Tensor) -> CtcPrefixState:
        """States of hypotheses index [M]."""
        return CtcPrefixState(*(x[index] for x in (self.held, self.blanked, self.last, self.score, self.item)))


class CtcPrefixScorer:
    """Prefix scores over log_probs [B, T, V] with lengths [B] (at least 1)."""

    def __init__(self, log_probs: Tensor, lengths: Tensor, blank: int = 0) -> None:
        self.mask = lengths_to_mask(lengths, log_probs.shape[1])
        self.x = torch.where(self.mask[..., None], log_probs, 0.0).double().clamp(min=_FLOOR).transpose(1, 2).contiguous()  # [B, V, T]
        self.end, self.blank = lengths - 1, blank
        self.blank_sums = self.x[:, blank].cumsum(-1)

    def init(self, width: int) -> CtcPrefixState:
        """The empty prefix, `width` times for each utterance."""
        size, device = len(self.x), self.x.device
        item = torch.arange(size, device=device).repeat_interleave(width)
        blanked = self.blank_sums[item]
        return CtcPrefixState(torch.full_like(blanked, -torch.inf), blanked, torch.full_like(item, -1),
                              blanked.new_zeros(len(item)), item)

    def score(self, state: CtcPrefixState, tokens: Tensor) -> Tensor:
        """Log-probability of each prefix with one of tokens [N, K] more: [N, K]."""
        x = self.x[state.item[:, None], tokens]  # [N, K, T]
        before = self._before(state, tokens)
        return (before + x).masked_fill(~self.mask[state.item][:, None], -torch.inf).logsumexp(-1)

    def final(self, state: CtcPrefixState) -> Tensor:
        """Log-probability of each prefix as the whole labeling: [N]."""
        end = self.end[state.item][:, None]
        return torch.logaddexp(state.held.gather(1, end), state.blanked.gather(1, end))[:, 0]

    def advance(self, state: CtcPrefixState, tokens: Tensor, scores: Tensor) -> CtcPrefixState:
        """States after tokens [N], whose prefix scores [N] `score` gave."""
        sums = self.x[state.item, tokens].cumsum(-1)
        before = self._before(state, tokens[:, None])[:, 0]
        # held[t] = x[t] · (held[t-1] + before[t]): each entry at s decays by x[s] ... x[t]
        held = sums + torch.logcumsumexp(before - _shift(sums, 0.0), -1)
        blank = self.blank_sums[state.item]
        blanked = blank + torch.logcumsumexp(_shift(held, -torch.inf) - _shift(blank, 0.0), -1)
        return CtcPrefixState(held, blanked, tokens, scores, state.item)

    def _before(self, state: CtcPrefixState, tokens: Tensor) -> Tensor:
        """[N, K, T]: the prefix is complete one frame earlier, and a token of K may begin at this one."""
        both = torch.logaddexp(state.held, state.blanked)
        at_start = torch.where(state.last < 0, 0.0, -torch.inf).to(both.dtype)
        both = torch.cat([at_start[:, None], both[:, :-1]], 1)
        blanked = torch.cat([at_start[:, None], state.blanked[:, :-1]], 1)
        return torch.where((tokens == state.last[:, None])[..., None], blanked[:, None], both[:, None])


def _shift(x: Tensor, first: float) -> Tensor:
    return torch.nn.functional.pad(x[..., :-1], (1, 0), value=first)
