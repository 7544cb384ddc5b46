"""Greedy generation by a decoder that says one token after the other, each utterance until its end, its length or a loop.

Works with any `voxkit.search.attention.Decoder`: `init_state(memory, lengths)`, `step(tokens, state)`, a state with `select`. Utterances
that have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from voxkit.search.attention import Decoder
from voxkit.search.hallucination import StopRule


@dataclass
class Generated:
    """What was said of one utterance.

    Attributes:
        tokens: ids without the end.
        score: log-probability of the tokens, and of the end where it was said.
        token_log_probs: of each token.
        ended: "end", "length" (as many tokens as it may have) or "loop" (the turns after the first are cut off).
    """

    tokens: list[int] = field(default_factory=list)
    score: float = 0.0
    token_log_probs: list[float] = field(default_factory=list)
    ended: str = "end"


@torch.no_grad()
def generate(decoder: Decoder, memory: Tensor, lengths: Tensor, limit: Tensor, *, forbidden: Collection[int] = (),
             rule: StopRule | None = None, expected: Tensor | None = None,
             told: Callable[[int, int], None] | None = None) -> list[Generated]:
    """The likeliest token at every step.

    Args:
        memory: [B, T, D]; lengths: [B]; what the decoder begins with.
        limit: [B] tokens at most; of an utterance with 0 nothing is said.
        forbidden: tokens that are never said (blank).
        rule: what a loop is; None: loops go on to the limit.
        expected: [B] tokens that CTC hears; as many may repeat.
        told: called with utterance and token as soon as it is known, for streaming.

    Returns:
        one for each utterance.
    """
    out = [Generated() for _ in range(len(lengths))]
    rows = (limit > 0).nonzero()[:, 0]
    if not len(rows):
        return out
    state = decoder.init_state(memory[rows], lengths[rows])
    last = torch.full((len(rows),), decoder.bos, dtype=torch.long, device=memory.device)
    barred = torch.tensor(sorted(set(forbidden) - {decoder.eos}), dtype=torch.long, device=memory.device)
    limits = limit.tolist()
    heard = [0.0] * len(out) if expected is None else expected.tolist()
    while len(rows):
        log_probs, state = decoder.step(last, state)
        log_probs = log_probs.float()
        best, chosen = log_probs.index_fill(1, barred, -torch.inf).max(1)
        going = []
        for n, (row, token, value) in enumerate(zip(rows.tolist(), chosen.tolist(), best.tolist())):
            one = out[row]
            one.score += value
            if token == decoder.eos:
                continue
            one.tokens.append(token)
            one.token_log_probs.append(value)
            if told is not None:
                told(row, token)
            if rule is not None and (cut := rule.loop(one.tokens, heard[row])) is not None:
                one.ended = "loop"
                one.tokens, one.token_log_probs = one.tokens[:cut], one.token_log_probs[:cut]
            elif len(one.tokens) >= limits[row]:
                one.ended = "length"
            else:
                going.append(n)
        if len(going) < len(rows):
            index = torch.tensor(going, dtype=torch.long, device=memory.device)
            rows, chosen = rows[index], chosen[index]
            state = state.select(index) if len(going) else state
        last = chosen
    return out
