"""Token times from cross-attention, as Whisper finds them (Radford et al. 2022; openai/whisper, timing.py): the weights of the heads that
follow the audio, standardized over the tokens, a median filter over time, their mean, and dynamic time warping through it.

No tensors: the runtime reads this too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from voxkit.align.dtw import dtw, median_filter
from voxkit.align.spans import TokenSpan
from voxkit.align.timing import word_groups
from voxkit.text.vocabulary import Vocabulary

Head = tuple[int, int]  # layer, head
WIDTH = 7  # frames of the median filter, at 50 a second
_USUAL = 35  # frames, 0.7 s: the median word of an utterance lasts no longer
_ENDS = ".。!！?？"


def spoken_spans(weights: np.ndarray, tokens: Sequence[int], log_probs: Sequence[float], vocabulary: Vocabulary, *,
                 frames: int, first: int = 0) -> list[TokenSpan]:
    """Spans of the tokens that a pretrained decoder with known alignment heads said, pauses left out.

    The path gives every frame to a token, those of a pause too. Whisper writes down where people pause: what a mark gets is no part of the
    word, and a word at the border of a sentence that lasts twice as long as the median word is cut to that, as openai/whisper does.

    Args:
        weights: [heads, U, T] of the alignment heads, row `first` while the first token is predicted; the rest as `attention_spans`.
        log_probs: per token; empty where nobody says.
    """
    spans = attention_spans(weights, tokens, log_probs, frames=min(frames, weights.shape[2]), first=first)
    groups = [_without_marks(group, vocabulary) for _, group in word_groups(spans, vocabulary)]
    lasts = [group[-1].end - group[0].start for group in groups if group[-1].end > group[0].start]
    longest = 2 * min(median(lasts), _USUAL) if lasts else 0.0
    ended = True  # the word before ended a sentence
    for group in groups:
        start, end = group[0].start, group[-1].end
        closes = vocabulary.decode([span.token for span in group]).endswith(tuple(_ENDS))
        if end - start > longest:
            start, end = (end - longest, end) if ended else (start, start + longest) if closes else (start, end)
            for span in group:
                span.start, span.end = (min(max(edge, start), end) for edge in (span.start, span.end))
        ended = closes
    return [span for group in groups for span in group]


def _without_marks(group: Sequence[TokenSpan], vocabulary: Vocabulary) -> list[TokenSpan]:
    """A word's spans, of which marks before its first and behind its last letter take no time."""
    voiced = [n for n, span in enumerate(group) if any(c.isalnum() or c == "\ufffd" for c in vocabulary.decode([span.token]))]
    first, last = (voiced[0], voiced[-1]) if voiced else (0, len(group) - 1)
    return [replace(span, start=group[first].start, end=group[first].start) if n < first else
            replace(span, start=group[last].end, end=group[last].end) if n > last else replace(span) for n, span in enumerate(group)]


def attention_spans(weights: np.ndarray, tokens: Sequence[int], log_probs: Sequence[float] | None = None, *, frames: int | None = None,
                    heads: Sequence[Head] | None = None, width: int = WIDTH, first: int = 0) -> list[TokenSpan]:
    """Spans of one utterance's tokens.

    Args:
        weights: [L, H, U, T] cross-attention of every layer and head while token u is *predicted* (row u: its query), one row
            for each token and at least one more for the end, whose frames belong to no token; or [H, U, T] of some heads.
        tokens: the ids, U - first or fewer.
        log_probs: per token, for confidences.
        frames: valid frames, the rest is cut off.
        heads: (layer, head) to use; None: all. `best_heads` finds those that align.
        width: of the median filter in frames, odd.
        first: rows before the first token's, of a prompt: what the tokens are standardized with, and no part of the path.
    """
    weights = weights if weights.ndim == 4 else weights[None]
    if weights.ndim != 4 or weights.shape[2] < first + len(tokens):
        raise ValueError(f"attention weights {tuple(weights.shape)} do not fit {len(tokens)} tokens: "
                         "[layers, heads, tokens, frames] is needed")
    if not len(tokens):
        return []
    matrix = attention_matrix(weights[..., : frames or weights.shape[3]], heads, width)[first:]
    rows, columns = dtw(-matrix[None])[0]
    starts = [int(columns[rows == u][0]) for u in range(len(matrix))]
    starts.append(matrix.shape[1])
    scores = log_probs or [0.0] * len(tokens)
    return [TokenSpan(token, starts[u], max(starts[u + 1], starts[u] + 1), scores[u], scores[u]) for u, token in enumerate(tokens)]


def attention_matrix(weights: np.ndarray, heads: Sequence[Head] | None = None, width: int = WIDTH) -> np.ndarray:
    """weights [L, H, U, T] → [U, T]: how well each token goes with each frame. What of a row's weight lay on frames that were cut off is
    spread over the others."""
    chosen = weights.reshape(-1, *weights.shape[2:]) if heads is None else np.stack([weights[layer, head] for layer, head in heads])
    chosen = chosen.astype(np.float32)
    chosen = chosen / np.maximum(chosen.sum(-1, keepdims=True), 1e-8)
    spread, mean = chosen.std(-2, keepdims=True), chosen.mean(-2, keepdims=True)
    return median_filter((chosen - mean) / np.maximum(spread, 1e-8), width).mean(0)


def best_heads(examples: Sequence[tuple[np.ndarray, Sequence[float]]], count: int = 6) -> list[Head]:
    """Heads whose attention lies where the tokens are.

    Args:
        examples: (weights [L, H, U, T] after the softmax, center frame of each token) of a few utterances aligned otherwise (CTC).

    Returns:
        (layer, head), best first: least mean distance between a token's attention and its frame.
    """
    if not examples:
        raise ValueError("no examples: heads cannot be chosen; pass heads=None to use all")
    distance = np.mean([(w[:, :, : len(c)] * np.abs(np.arange(w.shape[3])[None] - np.asarray(c)[:, None])).sum(-1).mean(-1)
                        for w, c in examples], axis=0)
    order = np.argsort(distance, axis=None, kind="stable")[:count].tolist()
    return [(i // distance.shape[1], i % distance.shape[1]) for i in order]
