"""CTC forced alignment: the best path through a given token sequence, for a whole batch at once (Viterbi; Kürzinger et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_frames


@dataclass
class TokenSpan:
    """A token's place: frames start to end (exclusive; whole ones from CTC, within a frame from CIF), mean and highest log-probability."""

    token: int
    start: float
    end: float
    log_prob: float
    peak: float


@dataclass
class CtcAlignment:
    """spans of all tokens in order; score: log-probability of the path."""

    spans: list[TokenSpan]
    score: float


@torch.no_grad()
def forced_align(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int = 0,
                 strict: bool = True) -> list[CtcAlignment | None]:
    """Align.

    Args:
        log_probs: [B, T, V] normalised, lengths [B].
        tokens: [B, U] padded, without blanks; token_lengths [B].
        strict: what cannot be aligned (more tokens than frames) is an error that names the items; else None in its place.

    Returns:
        One alignment per utterance.
    """
    check_frames(log_probs, lengths, blank)
    size, frames, vocab = log_probs.shape
    if tokens.shape[0] != size or token_lengths.shape != (size,):
        raise ValueError(f"tokens {tuple(tokens.shape)} and token_lengths {tuple(token_lengths.shape)} are not those of {size} utterances")
    valid = lengths_to_mask(token_lengths, tokens.shape[1])
    if bool(((tokens == blank) | (tokens < 0) | (tokens >= vocab)).logical_and(valid).any()):
        raise ValueError(f"tokens to align hold blank ({blank}) or ids outside of 0..{vocab - 1}: is it another tokenizer's text?")
    tokens = tokens.masked_fill(~valid, blank)
    repeats = ((tokens[:, 1:] == tokens[:, :-1]) & valid[:, 1:]).sum(1)
    impossible = lengths < token_lengths + repeats
    if strict and bool(impossible.any()):
        named = [f"item {b}: {int(token_lengths[b])} tokens and {int(repeats[b])} repetitions in {int(lengths[b])} frames"
                 for b in impossible.nonzero().flatten().tolist()]
        raise ValueError(f"the text is longer than the audio: {'; '.join(named[:5])}; is it the right text?")
    if frames == 0:
        return [None if bad else CtcAlignment([], 0.0) for bad in impossible.tolist()]
    path, scores = _viterbi(log_probs.float(), lengths, tokens, token_lengths, blank)
    emitted = log_probs.float().gather(2, _labels(tokens, blank).gather(1, path)[..., None])[..., 0]
    out: list[CtcAlignment | None] = []
    for b, bad in enumerate(impossible.tolist()):
        n = int(lengths[b])
        spans = [] if bad else _spans(path[b, :n].tolist(), emitted[b, :n].tolist(), tokens[b].tolist())
        out.append(None if bad else CtcAlignment(spans, float(scores[b])))
    return out


def _labels(tokens: Tensor, blank: int) -> Tensor:
    """tokens [B, U] → [B, 2U + 1], blanks between."""
    labels = tokens.new_full((tokens.shape[0], 2 * tokens.shape[1] + 1), blank)
    labels[:, 1::2] = tokens
    return labels


def _viterbi(x: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Best state (index into labels) per frame [B, T], and its log-probability [B]."""
    labels = _labels(tokens, blank)
    size, states = labels.shape
    frames = x.shape[1]
    skip = torch.zeros_like(labels, dtype=torch.bool)  # from two states before: over a blank, to another token
    skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    emit = x.gather(2, labels[:, None].expand(-1, frames, -1))
    best = torch.full((size, states), -torch.inf, device=x.device)
    best[:, 0] = 0.0  # before the first frame: the first blank or the first token may follow
    steps = torch.zeros(frames, size, states, dtype=torch.uint8, device=x.device)
    running = lengths_to_mask(lengths, frames)
    for t in range(frames):
        one = torch.nn.functional.pad(best[:, :-1], (1, 0), value=-torch.inf)
        two = torch.nn.functional.pad(best[:, :-2], (2, 0), value=-torch.inf)[:, :states].masked_fill(~skip, -torch.inf)
        value, step = torch.stack([best, one, two]).max(0)
        now = running[:, t, None]
        best = torch.where(now, value + emit[:, t], best)
        steps[t] = torch.where(now, step, 0)
    last = 2 * token_lengths
    ends = torch.stack([best.gather(1, last[:, None])[:, 0], best.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0]])
    score, which = ends.max(0)
    state = (last - which).clamp(min=0)
    path = torch.zeros(size, frames, dtype=torch.long, device=x.device)
    for t in range(frames - 1, -1, -1):
        path[:, t] = state
        state = state - steps[t].gather(1, state[:, None])[:, 0]
    return path, score


def _spans(path: list[int], emitted: list[float], tokens: list[int]) -> list[TokenSpan]:
    spans: list[TokenSpan] = []
    start = 0
    for t in range(1, len(path) + 1):
        if t == len(path) or path[t] != path[start]:
            if path[start] % 2:
                scores = emitted[start:t]
                spans.append(TokenSpan(tokens[path[start] // 2], start, t, sum(scores) / len(scores), max(scores)))
            start = t
    return spans


class Peaked(Protocol):
    """A search's hypothesis: tokens, the frame of each, their log-probabilities (may be empty)."""

    tokens: list[int]
    frames: list[int]
    token_log_probs: list[float]


def spans_from_peaks(hypothesis: Peaked) -> list[TokenSpan]:
    """CTC-peak times: what a search says without an alignment; every token lasts one frame."""
    scores = hypothesis.token_log_probs or [0.0] * len(hypothesis.tokens)
    return [TokenSpan(k, t, t + 1, p, p) for k, t, p in zip(hypothesis.tokens, hypothesis.frames, scores)]
