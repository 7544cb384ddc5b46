"""Fire times of CIF → places of tokens: one token ends where it fires, or before the silence that it fires after; the next begins where
it fires."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil, floor

from voxkit.align.spans import TokenSpan
from voxkit.ops.heard import HEARD
from voxkit.text.vocabulary import Vocabulary

_ROUNDING = 1e-3  # of fire times in float32, frames
_ONSET = 0.2  # weight of the next word's first frames that may stand between a silence and the fire


def sound_ends(weights: Sequence[float], times: Sequence[float]) -> list[float]:
    """Where the sound of each token ends, in frames.

    The last token of a word often lacks a little when the word is over, and takes it from the onset of the next one: it fires after the
    pause. Where frames of weight below HEARD lie before the one it fires in, or before a little of that onset, and it had most of its
    weight before them, it ends there.

    Args:
        weights: [T] of the frames, not scaled; times: [U] where each token fires, in frames.
    """
    sums, ends, begin = list(accumulate(weights)), [], 0.0
    for number, end in enumerate(times):
        first, fired = floor(begin + _ROUNDING), ceil(end - _ROUNDING) - 1
        silent, onset = fired - 1, 0.0
        while silent >= first and weights[silent] >= HEARD and onset + weights[silent] <= _ONSET:
            onset += weights[silent]
            silent -= 1
        heard = silent
        while heard >= first and weights[heard] < HEARD:
            heard -= 1
        ends.append(heard + 1.0 if first <= heard < silent and sums[heard] - number >= 0.5 else end)
        begin = end
    return ends


def spans_from_fires(tokens: Sequence[int], times: Sequence[float], log_probs: Sequence[float], vocabulary: Vocabulary,
                     weights: Sequence[float]) -> list[TokenSpan]:
    """Spans for `words_from_tokens`.

    Args:
        tokens: ids; times: where each fires, in frames; log_probs: of each.
        weights: [T] of the frames, not scaled.
        vocabulary: of the tokens. A token that is a word boundary and nothing else (SentencePiece's "▁") covers the pause before the
            word: it gets no length, so that the word begins when the pause is over.

    Raises:
        ValueError: not one time and log-probability for each token.
    """
    if not len(tokens) == len(times) == len(log_probs):
        raise ValueError(f"{len(tokens)} tokens, {len(times)} times and {len(log_probs)} log-probabilities: one of each is needed for each")
    spans, before = [], 0.0
    for token, fired, end, log_prob in zip(tokens, times, sound_ends(weights, times), log_probs):
        spans.append(TokenSpan(token, fired, fired, log_prob, log_prob) if not vocabulary.words([token])
                     else TokenSpan(token, before, end, log_prob, log_prob))
        before = fired
    return spans
