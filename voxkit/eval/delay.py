"""How long after a word's end a streaming recognizer had said it, for good, in the time of the audio."""

from __future__ import annotations

from collections.abc import Sequence

from voxkit.eval.boundaries import TimedWord
from voxkit.eval.wer import align


def said_at(changes: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds at which each word of the final text was there and stayed, together with all words before it.

    Args:
        changes: (seconds of audio heard, text) each time that the text changed; the last is the final one.
    """
    if not changes:
        return []
    final = changes[-1][1].split()
    times = [changes[-1][0]] * len(final)
    kept = len(final)
    for seconds, text in reversed(changes[:-1]):
        words = text.split()
        kept = next((i for i in range(kept) if i >= len(words) or words[i] != final[i]), kept)
        times[:kept] = [seconds] * kept
    return times


def word_delays(true: Sequence[TimedWord], changes: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds from the end of each word that is right until it was said; below 0 where it was guessed before its end."""
    if not changes:
        return []
    said, final = said_at(changes), changes[-1][1].split()
    return [said[j0 + i] - true[i0 + i].end for kind, i0, i1, j0, _ in align("", [w.word for w in true], final).opcodes if kind == "equal"
            for i in range(i1 - i0)]
