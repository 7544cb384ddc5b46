"""Whether two systems differ.

permutation_test    which system made which error is exchanged at random, per utterance or per speaker.
mapsswe             matched pairs, Gillick & Cox 1989 as in NIST's sctk: the segments between words both have right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voxkit.eval.intervals import by_group
from voxkit.eval.wer import AlignedUtterance, WerResult


@dataclass(frozen=True)
class TestResult:
    """difference: rate(a) - rate(b), fraction; statistic: the test's own; p: two-sided; n: units compared."""

    __test__ = False  # not a pytest class

    difference: float
    statistic: float
    p: float
    n: int


def permutation_test(a: WerResult, b: WerResult, groups: dict[str, str] | None = None, *,
                     samples: int = 10_000, seed: int = 0) -> TestResult:
    """Paired permutation test of the difference in errors; `groups` id → speaker swaps whole speakers."""
    pairs = _matched(a, b)
    names = None if groups is None else [groups.get(x.id, x.id) for x, _ in pairs]
    difference = by_group([x.errors - y.errors for x, y in pairs], names)
    observed = abs(difference.sum())
    rng = np.random.default_rng(seed)
    block, beyond = max(1, 2_000_000 // len(difference)), 0
    for start in range(0, samples, block):
        signs = rng.integers(0, 2, (min(block, samples - start), len(difference))) * 2 - 1
        beyond += int((np.abs(signs @ difference) >= observed).sum())
    return TestResult(a.rate - b.rate, float(difference.sum()), (beyond + 1) / (samples + 1), len(difference))


def mapsswe(a: WerResult, b: WerResult, good: int = 2) -> TestResult:
    """Matched-pairs sentence-segment word error test.

    Utterances are cut where both systems have at least `good` words in a row right; the segments between count as
    independent, and the mean difference of their errors is tested against the normal distribution. Where all segments differ by the same
    there is no spread to measure it by: then p is that of the sign test, 0.5^(n-1).
    """
    differences = np.array([d for x, y in _matched(a, b) for d in _segment_differences(x, y, good)], dtype=float)
    rate, n = a.rate - b.rate, len(differences)
    spread = differences.std(ddof=1) if n > 1 else 0.0
    if spread == 0:
        same = n == 0 or differences.mean() == 0
        return TestResult(rate, 0.0 if same else math.copysign(math.inf, differences.mean()), 1.0 if same else 0.5 ** (n - 1), n)
    z = float(differences.mean() / (spread / math.sqrt(n)))
    return TestResult(rate, z, math.erfc(abs(z) / math.sqrt(2)), n)


def _segment_differences(x: AlignedUtterance, y: AlignedUtterance, good: int) -> list[int]:
    """errors(x) - errors(y) per segment that holds an error of either."""
    out, run, open_segment, total = [], 0, False, 0
    for place, (ex, ey) in enumerate(zip(_errors_by_place(x), _errors_by_place(y))):
        if ex or ey:
            total, open_segment, run = total + ex - ey, True, 0
            continue
        run += place % 2  # a place between words, where nothing was inserted, is no word that is right
        if run >= good and open_segment:
            out.append(total)
            open_segment, total = False, 0
    return [*out, total] if open_segment else out


def _errors_by_place(u: AlignedUtterance) -> list[int]:
    """Errors [2 · words + 1]: insertions before the first word, at it, insertions before the second ... and after the last."""
    places = [0] * (2 * len(u.reference) + 1)
    for kind, i0, i1, j0, j1 in u.opcodes:
        if kind == "insert":
            places[2 * i0] += j1 - j0
        elif kind != "equal":
            for i in range(i0, i1):
                places[2 * i + 1] += 1
    return places


def _matched(a: WerResult, b: WerResult) -> list[tuple[AlignedUtterance, AlignedUtterance]]:
    others = {u.id: u for u in b.utterances}
    if set(others) != {u.id for u in a.utterances}:
        raise ValueError("the two results are not of the same utterances: score both on the same test set")
    pairs = [(u, others[u.id]) for u in a.utterances]
    for x, y in pairs:
        if x.reference != y.reference:
            raise ValueError(f"utterance {x.id}: the two results have different references; use one normalization for both")
    return pairs
