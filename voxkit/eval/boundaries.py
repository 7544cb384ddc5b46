"""How well word times agree with known ones: mean absolute boundary error, and F1 of boundaries within a collar."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Protocol, Sequence

from voxkit.eval.wer import align


class TimedWord(Protocol):
    """word, start and end in seconds."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class BoundaryResult:
    """error, median: absolute distance of starts and ends of words that are right, mean and median, seconds; f1: of all boundaries within
    the collar; words: right words; start_bias, end_bias: mean signed error, seconds."""

    error: float
    f1: float
    words: int
    start_bias: float
    end_bias: float
    median: float = float("nan")


def boundary_scores(true: Sequence[Sequence[TimedWord]], found: Sequence[Sequence[TimedWord]], collar: float = 0.05) -> BoundaryResult:
    """Compare word times, utterance by utterance; words are matched by their alignment, so wrong and missing ones cost F1 only."""
    if len(true) != len(found):
        raise ValueError(f"{len(true)} references and {len(found)} hypotheses: there must be one for each")
    starts, ends, total = [], [], 0
    for reference, hypothesis in zip(true, found):
        total += len(reference) + len(hypothesis)
        for kind, i0, i1, j0, _ in align("", [w.word for w in reference], [w.word for w in hypothesis]).opcodes:
            if kind == "equal":
                for i in range(i1 - i0):
                    starts.append(hypothesis[j0 + i].start - reference[i0 + i].start)
                    ends.append(hypothesis[j0 + i].end - reference[i0 + i].end)
    if not starts:
        return BoundaryResult(float("nan"), 0.0, 0, float("nan"), float("nan"))
    both = starts + ends
    hits = sum(abs(d) <= collar + 1e-9 for d in both)
    return BoundaryResult(sum(map(abs, both)) / len(both), hits / total, len(starts), sum(starts) / len(starts), sum(ends) / len(ends),
                          median(map(abs, both)))
