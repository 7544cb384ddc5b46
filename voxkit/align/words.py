"""Tokens with frames → words with seconds and confidences."""

from __future__ import annotations

import math
from statistics import median
from typing import Sequence

from voxkit.align.spans import TokenSpan
from voxkit.align.timing import TokenTiming, WordTiming, word_groups
from voxkit.hypothesis import Word
from voxkit.text.vocabulary import Vocabulary

CONFIDENCES = ("mean", "min", "product")


def words_from_tokens(spans: Sequence[TokenSpan], vocabulary: Vocabulary, seconds_per_frame: float, *,
                      timing: WordTiming | TokenTiming | None = None, duration: float | None = None,
                      offset: float = 0.0, confidence: str = "mean", temperature: float = 1.0) -> list[Word]:
    """Put tokens together to words.

    Args:
        spans: of the tokens, in order; special ones are left out.
        vocabulary: it says which tokens make a word.
        seconds_per_frame: of the spans' frames.
        timing: where words begin and end around their spikes; words never overlap and never leave the audio.
        duration: seconds of audio, the latest end.
        offset: seconds added to all times (a segment of a longer recording).
        confidence: of a word from its tokens' peak probabilities: "mean" (geometric), "min", "product".
        temperature: log-probabilities are divided by it (see voxkit.eval.calibration).

    Returns:
        words with start <= end in seconds.
    """
    if confidence not in CONFIDENCES:
        raise ValueError(f"confidence {confidence!r} is none of {', '.join(CONFIDENCES)}")
    timing = timing or WordTiming()
    raw = word_groups(spans, vocabulary)
    placed = timing.places([group for _, group in raw], seconds_per_frame, duration)
    starts, ends = [p[0] for p in placed], [p[1] for p in placed]
    for i in range(1, len(raw)):  # where shifted words overlap, they meet in the middle
        if starts[i] < ends[i - 1]:
            starts[i] = ends[i - 1] = max((starts[i] + ends[i - 1]) / 2, starts[i - 1])
    words, latest = [], math.inf if duration is None else duration
    for (text, group), start, end in zip(raw, starts, ends):
        start = min(max(start, 0.0), latest)
        end = min(max(end, start), latest)
        words.append(Word(text, start + offset, end + offset, token_confidence([s.peak for s in group], confidence, temperature)))
    return words


def token_confidence(log_probs: Sequence[float], how: str = "mean", temperature: float = 1.0) -> float:
    """Confidence in [0, 1] from the log-probabilities of a word's tokens."""
    scaled = [p / temperature for p in log_probs]
    value = {"mean": sum(scaled) / max(len(scaled), 1), "min": min(scaled, default=0.0), "product": sum(scaled)}[how]
    return min(1.0, math.exp(value))


def fit_word_timing(found: Sequence[Sequence[Word]], true: Sequence[Sequence[Word]], timing: WordTiming | None = None) -> WordTiming:
    """Shifts that take the median error out of starts and ends; utterances with other words than the truth are left out.

    Args:
        found: words per utterance as made with `timing`; true: with the times that are known.

    Raises:
        ValueError: no utterance has the same words in both.
    """
    timing = timing or WordTiming()
    pairs = [(f, t) for fs, ts in zip(found, true) if [w.word for w in fs] == [w.word for w in ts] for f, t in zip(fs, ts)]
    if not pairs:
        raise ValueError("no utterance has the words of its reference: word times cannot be fitted; align the reference text instead")
    return WordTiming(timing.start_shift + median(t.start - f.start for f, t in pairs),
                      timing.end_shift + median(t.end - f.end for f, t in pairs))
