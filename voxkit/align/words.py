"""Tokens with frames → words with seconds and confidences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Sequence

from voxkit.align.ctc import TokenSpan
from voxkit.hypothesis import Word

CONFIDENCES = ("mean", "min", "product")


@dataclass
class WordTiming:
    """How a system's frames lie to the speech: CTC spikes late at a word's start and stops before its end.

    Attributes:
        start_shift, end_shift: seconds added to word starts and ends; `fit_word_timing` finds them on speech with known times.
    """

    start_shift: float = 0.0
    end_shift: float = 0.0


def words_from_tokens(spans: Sequence[TokenSpan], pieces: Sequence[str], seconds_per_frame: float, *, timing: WordTiming | None = None,
                      duration: float | None = None, offset: float = 0.0, confidence: str = "mean", temperature: float = 1.0) -> list[Word]:
    """Put pieces together to words.

    Args:
        spans: of the tokens, in order.
        pieces: [V] SentencePiece pieces; one that begins with "▁" begins a word.
        seconds_per_frame: of the spans' frames.
        timing: shifts; words never overlap and never leave the audio.
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
    groups: list[list[TokenSpan]] = []
    for span in spans:
        if not groups or pieces[span.token].startswith("▁"):
            groups.append([])
        groups[-1].append(span)
    raw = [("".join(pieces[s.token] for s in group).replace("▁", ""), group) for group in groups]
    raw = [(text, group) for text, group in raw if text]
    starts = [group[0].start * seconds_per_frame + timing.start_shift for _, group in raw]
    ends = [group[-1].end * seconds_per_frame + timing.end_shift for _, group in raw]
    for i in range(1, len(raw)):  # where shifted words overlap, they meet in the middle
        if starts[i] < ends[i - 1]:
            starts[i] = ends[i - 1] = (starts[i] + ends[i - 1]) / 2
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
