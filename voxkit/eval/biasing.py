"""What a phrase list does: recall of its phrases, and the word error rate where none of them is said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Iterable, Sequence

from voxkit.eval.wer import AlignedUtterance, WerResult


@dataclass(frozen=True)
class BiasingResult:
    """said: phrases in the references; found: those whose words all came out right; false: phrases in hypotheses where the reference
    has other words; others: the result on utterances without any phrase, None where there are none."""

    said: int
    found: int
    false: int
    others: WerResult | None

    @property
    def recall(self) -> float:
        """Share of the phrases said that were found."""
        return self.found / self.said if self.said else float("nan")


def biasing(result: WerResult, phrases: Iterable[str]) -> BiasingResult:
    """Judge a result by a list of phrases (spelled as the normalized texts are).

    Raises:
        ValueError: none of the phrases is said in the test set.
    """
    wanted = {tuple(phrase.split()) for phrase in phrases} - {()}
    said = found = false = 0
    others = []
    for u in result.utterances:
        right_reference, right_hypothesis = _right(u)
        here = [(i, p) for p in wanted for i in _places(u.reference, p)]
        said += len(here)
        found += sum(all(right_reference[i:i + len(p)]) for i, p in here)
        false += sum(not all(right_hypothesis[j:j + len(p)]) for p in wanted for j in _places(u.hypothesis, p))
        if not here:
            others.append(u)
    if not said:
        raise ValueError(f"none of the {len(wanted)} phrases is said in the test set: are they spelled as its (normalized) texts are?")
    return BiasingResult(said, found, false, WerResult(others, result.unit) if others else None)


def rare_words(train: Iterable[str], test: Iterable[str], said: int = 50, total: int = 100, *, at_most: int = 1, shortest: int = 4,
               seed: int = 0) -> list[str]:
    """A list to bias with: words of the test set that training hardly has, and distractors that are as rare and not said.

    Args:
        said: words of the test set, the most frequent there first; total: words in the list.
        at_most: occurrences in training; shortest: letters.

    Raises:
        ValueError: there are not so many.
    """
    counts, spoken = Counter(w for text in train for w in text.split()), Counter(w for text in test for w in text.split())
    rare = [w for w, _ in sorted(spoken.items(), key=lambda x: (-x[1], x[0])) if counts[w] <= at_most and len(w) >= shortest]
    others = sorted(w for w, n in counts.items() if n <= max(at_most, 1) and len(w) >= shortest and w not in spoken)
    if len(rare) < said or len(others) < total - said:
        raise ValueError(f"{len(rare)} words of the test set and {len(others)} others are that rare: {said} and {total - said} are not to "
                         "be had; allow more occurrences in training (--at-most), or a shorter list (--said, --total)")
    return rare[:said] + Random(seed).sample(others, total - said)


def _right(u: AlignedUtterance) -> tuple[list[bool], list[bool]]:
    """Which words of the reference, of the hypothesis are aligned with their like."""
    reference, hypothesis = [False] * len(u.reference), [False] * len(u.hypothesis)
    for kind, i0, i1, j0, j1 in u.opcodes:
        if kind == "equal":
            reference[i0:i1], hypothesis[j0:j1] = [True] * (i1 - i0), [True] * (j1 - j0)
    return reference, hypothesis


def _places(words: Sequence[str], phrase: tuple[str, ...]) -> list[int]:
    return [i for i in range(len(words) - len(phrase) + 1) if tuple(words[i:i + len(phrase)]) == phrase]
