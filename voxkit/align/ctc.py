"""CTC forced alignment: the best path through a given token sequence, for a whole batch at once (`voxkit/ops/ctc_path.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from voxkit.align.spans import CtcAlignment, TokenSpan
from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_frames
from voxkit.ops.ctc_path import best_path, path_labels, repetitions


@torch.no_grad()
def forced_align(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int = 0,
                 strict: bool = True) -> list[CtcAlignment | None]:
    """Align.

    Args:
        log_probs: [B, T, V] normalized, lengths [B].
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
    repeats = repetitions(tokens, token_lengths)
    impossible = lengths < token_lengths + repeats
    if strict and bool(impossible.any()):
        named = [f"item {b}: {int(token_lengths[b])} tokens and {int(repeats[b])} repetitions in {int(lengths[b])} frames"
                 for b in impossible.nonzero().flatten().tolist()]
        raise ValueError(f"the text is longer than the audio: {'; '.join(named[:5])}; is it the right text?")
    if frames == 0:
        return [None if bad else CtcAlignment([], 0.0) for bad in impossible.tolist()]
    path, scores = best_path(log_probs.float(), lengths, tokens, token_lengths, blank)
    emitted = log_probs.float().gather(2, path_labels(tokens, blank).gather(1, path)[..., None])[..., 0]
    out: list[CtcAlignment | None] = []
    for b, bad in enumerate(impossible.tolist()):
        n = int(lengths[b])
        spans = [] if bad else _spans(path[b, :n].tolist(), emitted[b, :n].tolist(), tokens[b].tolist())
        out.append(None if bad else CtcAlignment(spans, float(scores[b])))
    return out


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
