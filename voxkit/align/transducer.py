"""Transducer forced alignment: the best path through a given text with at most one token a frame, as the searches have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from voxkit.align.spans import TokenSpan
from voxkit.ops.checks import check_lengths, check_shapes


class Transducer(Protocol):
    """What an alignment needs of a head (`voxkit.decoders.transducer.Transducer`)."""

    blank: int

    def init_context(self, size: int, device: torch.device) -> Tensor:
        """[size, C] before the first token."""

    def hear(self, states: Tensor) -> Tensor:
        """states [..., D] → [..., J]."""

    def say(self, context: Tensor) -> Tensor:
        """Last tokens [N, C] → [N, J]."""

    def join(self, heard: Tensor, said: Tensor) -> Tensor:
        """[..., J] each → log-probabilities [..., V]."""


@dataclass
class TransducerAlignment:
    """spans: every token lasts the frame that emits it; score: log-probability of the path, its blanks included."""

    spans: list[TokenSpan]
    score: float


@torch.no_grad()
def transducer_align(head: Transducer, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> list[TransducerAlignment]:
    """Align.

    Args:
        states: [B, T, D] with lengths [B]; tokens: [B, U] padded with anything, without blanks, with token_lengths [B].

    Raises:
        ValueError: more tokens than frames; it names the items.
    """
    check_shapes({"states": (states, "BTD"), "lengths": (lengths, "B"), "tokens": (tokens, "BU"), "token_lengths": (token_lengths, "B")})
    check_lengths(lengths, states.shape[1])
    check_lengths(token_lengths, tokens.shape[1])
    if named := [f"item {b}: {u} tokens in {t} frames" for b, (t, u) in enumerate(zip(lengths.tolist(), token_lengths.tolist())) if u > t]:
        raise ValueError(f"the text is longer than the audio: {'; '.join(named[:5])}; is it the right text?")
    size, width, device = len(tokens), tokens.shape[1] + 1, states.device
    past = torch.arange(tokens.shape[1], device=device) >= token_lengths[:, None]
    tokens = tokens.masked_fill(past, head.blank)
    start = head.init_context(size, device)
    texts = torch.cat((start, tokens), dim=1).unfold(1, start.shape[1], 1)  # [B, U + 1, C]
    heard, said = head.hear(states), head.say(texts.flatten(0, 1)).view(size, width, -1)
    best = torch.full((size, width), -torch.inf, device=device)  # of paths that have said u tokens
    best[:, 0] = 0.0
    emits, scores = [], []
    for t in range(states.shape[1]):
        x = head.join(heard[:, t, None], said)
        label = x[:, :-1].gather(2, tokens[..., None])[..., 0].masked_fill(past, -torch.inf)
        stay, go = best + x[..., head.blank], torch.nn.functional.pad(best[:, :-1] + label, (1, 0), value=-torch.inf)
        best = torch.where((t < lengths)[:, None], torch.maximum(stay, go), best)
        emits.append((go > stay) & (t < lengths)[:, None])
        scores.append(label)
    found, log_probs = torch.stack(emits, 1).tolist() if emits else [], torch.stack(scores, 1).tolist() if scores else []
    out = []
    for b, u in enumerate(token_lengths.tolist()):
        spans: list[TokenSpan] = []
        total = float(best[b, u])
        for t in reversed(range(int(lengths[b]))):
            if u and found[b][t][u]:
                u -= 1
                spans.append(TokenSpan(int(tokens[b, u]), t, t + 1, log_probs[b][t][u], log_probs[b][t][u]))
        out.append(TransducerAlignment(spans[::-1], total))
    return out
