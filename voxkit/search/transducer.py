"""What a transducer offers its searches, and greedy search (Graves 2012), vectorized over the batch.

    best = transducer_greedy(head, states, lengths)[0].tokens

Several frames are looked at together: as long as all are blank, what was said stays the same and so do the scores (label looping: Bataev et
al. 2024).

Streaming: `search = TransducerGreedy(head)`, `state = search.init(B)`, `state = search.advance(state, chunk, lengths)`, and
`search.nbest(state)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from voxkit.ops.checks import check_lengths, check_shapes
from voxkit.search.hypotheses import TransducerHypothesis

_LOOK = 8  # frames that are looked at together, of all utterances


class Transducer(Protocol):
    """What the searches need of a head (`voxkit.decoders.transducer.Transducer`)."""

    blank: int

    def init_context(self, size: int, device: torch.device) -> Tensor:
        """[size, C] of hypotheses that have said nothing."""

    def hear(self, states: Tensor) -> Tensor:
        """states [..., D] → [..., J]."""

    def say(self, context: Tensor) -> Tensor:
        """Last tokens [N, C] → [N, J]."""

    def join(self, heard: Tensor, said: Tensor) -> Tensor:
        """[..., J] each → log-probabilities [..., V], float32."""

    def internal_lm(self, said: Tensor) -> Tensor:
        """[..., J] → log-probabilities of tokens as the transducer expects them unheard [..., V]."""


@dataclass
class GreedyState:
    """B utterances so far; opaque to callers.

    Attributes:
        context: [B, C] last tokens; said: [B, J] what the joiner takes of them.
        score: [B] log-probability of all blanks and tokens. frames: [B] consumed.
        found: per utterance tokens, frames and log-probabilities of these.
    """

    context: Tensor
    said: Tensor
    score: Tensor
    frames: Tensor
    found: list[tuple[list[int], list[int], list[float]]] = field(default_factory=list)


class TransducerGreedy:
    """The most likely step again and again.

    Args:
        head: scores.
        symbols: tokens that a frame may emit.
    """

    def __init__(self, head: Transducer, symbols: int = 1) -> None:
        if symbols < 1:
            raise ValueError(f"symbols is {symbols}: a frame emits at least one token at the most")
        self.head, self.symbols = head, symbols

    def init(self, size: int, device: torch.device | str = "cpu") -> GreedyState:
        """`size` utterances before their first frame."""
        context, zeros = self.head.init_context(size, torch.device(device)), torch.zeros(size, device=device)
        return GreedyState(context, self.head.say(context), zeros, zeros.long(), [([], [], []) for _ in range(size)])

    @torch.no_grad()
    def advance(self, state: GreedyState, states: Tensor, lengths: Tensor) -> GreedyState:
        """Consume frames: states [B, T, D], lengths [B] valid ones → the state after them."""
        check_states(states, lengths, len(state.frames))
        heard, said, device = self.head.hear(states), state.said.clone(), states.device
        found = [tuple(list(part) for part in old) for old in state.found]
        # few numbers, and all of them decide what comes next: plain ones are faster than tensors
        score, ends, start = state.score.tolist(), lengths.tolist(), state.frames.tolist()
        context, at, emitted = state.context.tolist(), [0] * len(ends), [0] * len(ends)
        active = [b for b, end in enumerate(ends) if end]
        while active:
            width = max(1, _LOOK // len(active))
            frames = [[min(t, ends[b] - 1) for t in range(at[b], at[b] + width)] for b in active]
            rows = torch.tensor(active, device=device)[:, None]
            x = self.head.join(heard[rows, torch.tensor(frames, device=device)], said[rows])
            best, token = (y.tolist() for y in x.max(-1))
            speaking = []
            for b, scores, tokens, blanks in zip(active, best, token, x[..., self.head.blank].tolist()):
                for p, k, blank in zip(scores[:ends[b] - at[b]], tokens, blanks):
                    score[b] += p
                    if k == self.head.blank:
                        at[b], emitted[b] = at[b] + 1, 0
                        continue
                    for old, value in zip(found[b], (k, start[b] + at[b], among_tokens(p, blank))):
                        old.append(value)
                    context[b] = [*context[b][1:], k]
                    speaking.append(b)
                    full = emitted[b] + 1 == self.symbols
                    at[b], emitted[b] = (at[b] + 1, 0) if full else (at[b], emitted[b] + 1)
                    break
            if speaking:
                said[torch.tensor(speaking, device=device)] = self.head.say(torch.tensor([context[b] for b in speaking], device=device))
            active = [b for b in active if at[b] < ends[b]]
        return GreedyState(torch.tensor(context, device=device), said, state.score.new_tensor(score), state.frames + lengths, found)

    def nbest(self, state: GreedyState, nbest: int = 1, *, final: bool = True) -> list[list[TransducerHypothesis]]:
        """The one hypothesis of each utterance, as of the beam; `final` makes no difference."""
        return [[TransducerHypothesis(list(tokens), score, list(frames), list(log_probs), {"transducer": score})]
                for (tokens, frames, log_probs), score in zip(state.found, state.score.tolist())]


def among_tokens(log_prob: float, blank: float) -> float:
    """Log-probability of a token where blank's is known to be no choice, from both among all."""
    return min(0.0, log_prob - math.log(max(-math.expm1(blank), 1e-12)))


def transducer_greedy(head: Transducer, states: Tensor, lengths: Tensor, symbols: int = 1) -> list[TransducerHypothesis]:
    """Whole utterances: states [B, T, D], lengths [B] → one hypothesis each. Other arguments: `TransducerGreedy`."""
    search = TransducerGreedy(head, symbols)
    return [row[0] for row in search.nbest(search.advance(search.init(len(states), states.device), states, lengths))]


def check_states(states: Tensor, lengths: Tensor, size: int) -> None:
    """states [B, T, D] of `size` utterances, with lengths [B] in 0..T, without NaN in valid frames; else ValueError."""
    check_shapes({"states": (states, "BTD"), "lengths": (lengths, "B")}, B=size)
    check_lengths(lengths, states.shape[1])
    for b in states.isnan().flatten(1).any(1).nonzero().flatten().tolist():
        if states[b, : int(lengths[b])].isnan().any():
            raise ValueError(f"states of item {b} of the batch hold NaN: look at the model or its input")
