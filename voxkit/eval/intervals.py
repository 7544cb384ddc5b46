"""How sure a rate is: Bisani & Ney 2004, resample speakers (or utterances) and take the percentiles of the pooled rate."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np


def bootstrap_interval(errors: Sequence[int], words: Sequence[int], groups: Sequence[str] | None = None, *,
                       confidence: float = 0.95, samples: int = 10_000, seed: int = 0) -> tuple[float, float] | None:
    """Percentile interval of sum(errors) / sum(words) under resampling of groups.

    Args:
        errors, words: [N], per utterance.
        groups: [N], speaker of each utterance; None: every utterance for itself.
        confidence: 0.95 = 95 %.

    Returns:
        (low, high), fractions; None where resampling can say nothing: one group, or the same rate in all of them.

    Raises:
        ValueError: there is no reference word, or not one group for each utterance.
    """
    e, w = by_group(errors, groups), by_group(words, groups)
    if len(e) == 0 or w.sum() == 0:
        raise ValueError("no reference words: there is no rate to give an interval for")
    if len(e) < 2 or (e * w.sum() == w * e.sum()).all():
        return None
    rng = np.random.default_rng(seed)
    rates = []
    block = max(1, 2_000_000 // len(e))
    for start in range(0, samples, block):
        picks = rng.integers(0, len(e), (min(block, samples - start), len(e)))
        rates.append(e[picks].sum(1) / np.maximum(w[picks].sum(1), 1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(rates), [tail, 1 - tail])
    return float(low), float(high)


def by_group(values: Sequence[int], groups: Sequence[str] | None) -> np.ndarray:
    """Sums of `values` [N] per group [N], in the order of their names; without groups the values themselves."""
    counts = np.asarray(values, dtype=np.int64)
    if groups is None:
        return counts
    if len(groups) != len(counts):
        raise ValueError(f"{len(groups)} groups for {len(counts)} utterances: one is needed for each")
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.zeros(index.max() + 1 if len(index) else 0, dtype=np.int64)
    np.add.at(sums, index, counts)
    return sums


def paired_interval(errors: Sequence[int], others: Sequence[int], words: Sequence[int], groups: Sequence[str] | None = None, *,
                    confidence: float = 0.95, samples: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """How much lower or higher one rate is than another on the same utterances: sum(errors) / sum(others) - 1, with its percentile interval
    under resampling of groups, the same for both.

    Args:
        errors, others: [N], of the two systems, per utterance; words: [N], of the references.
        groups: [N], speaker of each utterance; None: every utterance for itself.

    Returns:
        (relative difference, low, high); low and high are minus and plus infinity where there is one group alone.

    Raises:
        ValueError: no reference words, the other system makes no error, or not one group for each utterance.
    """
    a, b, w = (by_group(values, groups) for values in (errors, others, words))
    if w.sum() == 0 or b.sum() == 0:
        raise ValueError("no reference words, or a system without errors: there is nothing to compare a rate with")
    difference = float(a.sum() / b.sum() - 1)
    if len(a) < 2:
        return difference, float("-inf"), float("inf")
    picks = np.random.default_rng(seed).integers(0, len(a), (samples, len(a)))
    ratios = a[picks].sum(1) / np.maximum(b[picks].sum(1), 1) - 1
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return difference, float(low), float(high)


def mean_interval(values: Sequence[float], groups: Sequence[str], samples: int = 2000) -> tuple[float, float, float]:
    """Mean, and a 95 % interval of it: groups (speakers) are drawn again, with all their values. Values that are NaN do not count; NaN
    where none does."""
    found: dict[str, list[float]] = {}
    for value, group in zip(values, groups):
        if not math.isnan(value):
            found.setdefault(group, []).append(value)
    if not found:
        return math.nan, math.nan, math.nan
    sums = np.array([sum(own) for own in found.values()])
    counts = np.array([len(own) for own in found.values()])
    drawn = np.random.default_rng(0).integers(len(sums), size=(samples, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(sums.sum() / counts.sum()), float(low), float(high)
