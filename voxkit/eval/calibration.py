"""Whether confidences can be trusted: expected calibration error, normalized cross-entropy, and the temperature that mends them.

    correct = right_words(reference.split(), [w.word for w in hypothesis.words])
    temperature = fit_temperature(confidences_on_dev, correct_on_dev)
    calibrated = apply_temperature(confidences, temperature)

A temperature T turns a confidence p into p^(1/T), which is what dividing the tokens' log-probabilities by T gives
(`words_from_tokens(..., temperature=T)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Protocol, Sequence

import numpy as np

from voxkit.eval.wer import align

_TINY = 1e-6


class Spoken(Protocol):
    """A word with its confidence in [0, 1]."""

    word: str
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """error: expected calibration error (Guo et al. 2017); nce: normalized cross-entropy (1 perfect, 0 no better than the mean,
    negative worse); accuracy: share of right words; bins: (mean confidence, accuracy, words) per bin that holds any."""

    error: float
    nce: float
    accuracy: float
    bins: list[tuple[float, float, int]]


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """For each hypothesis word whether the alignment has it right."""
    out = [False] * len(hypothesis)
    for kind, _, _, j0, j1 in align("", reference, hypothesis).opcodes:
        if kind == "equal":
            out[j0:j1] = [True] * (j1 - j0)
    return out


def calibration(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> Calibration:
    """Measure; bins of equal width in [0, 1]."""
    p, y = _arrays(confidences, correct)
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = [(float(p[which == b].mean()), float(y[which == b].mean()), int((which == b).sum())) for b in range(bins) if (which == b).any()]
    error = sum(n * abs(c - a) for c, a, n in rows) / len(p)
    mean = float(y.mean())
    if 0 < mean < 1:
        base = mean * np.log(mean) + (1 - mean) * np.log(1 - mean)
        nce = float(1 - _cross_entropy(p, y) / -base)
    else:
        nce = 0.0
    return Calibration(float(error), nce, mean, rows)


def fit_temperature(confidences: Sequence[float], correct: Sequence[bool]) -> float:
    """The temperature, in 0.1 to 20, under which the confidences explain best which words are right (least cross-entropy)."""
    p, y = _arrays(confidences, correct)
    low, high = np.log(0.1), np.log(20.0)
    grid = np.linspace(low, high, 41)
    for _ in range(4):  # ever finer around the best
        losses = [_cross_entropy(p ** (1 / np.exp(t)), y) for t in grid]
        best = int(np.argmin(losses))
        grid = np.linspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], 21)
    return float(np.exp(grid[len(grid) // 2]))


def apply_temperature(confidences: Sequence[float], temperature: float) -> list[float]:
    """p^(1/T)."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")
    return [float(p) ** (1 / temperature) for p in confidences]


def judged(references: Mapping[str, str], words: Mapping[str, Sequence[Spoken]], rule: Any = str) -> tuple[list[float], list[bool]]:
    """(confidence, whether it is right) of every word that has a confidence; `rule` is the text normalization of single words.

    A rule that makes several words of one, or none, judges that word by its own spelling.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    for id, found in words.items():
        spelled = [rule(w.word) if len(rule(w.word).split()) == 1 else w.word for w in found]
        confidences += [w.confidence for w in found]
        correct += right_words(rule(references[id]).split(), spelled)
    return confidences, correct


def measured(references: Mapping[str, str], words: Mapping[str, Sequence[Spoken]], rule: Any = str) -> Calibration | None:
    """Calibration of the words found, by id; None where there are none."""
    confidences, correct = judged(references, words, rule)
    return calibration(confidences, correct) if confidences else None


def _cross_entropy(p: np.ndarray, y: np.ndarray) -> float:
    p = np.clip(p, _TINY, 1 - _TINY)
    return float(-np.where(y > 0, np.log(p), np.log(1 - p)).mean())


def _arrays(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    if p.shape != y.shape or p.ndim != 1:
        raise ValueError(f"{p.size} confidences and {y.size} judgements: one for each word is needed")
    if not len(p):
        raise ValueError("no words: there is nothing to calibrate")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"confidences reach from {p.min():g} to {p.max():g}: they must lie in 0 to 1")
    return p, y
