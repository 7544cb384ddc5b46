"""Intervals of means are over groups."""

import math

import pytest

from voxkit.eval.intervals import mean_interval


def test_groups_are_drawn_again_and_nan_does_not_count():
    mean, low, high = mean_interval([1.0, 1.0, 3.0, math.nan], ["a", "a", "b", "b"])
    assert mean == pytest.approx(5 / 3) and low == 1.0 and high == 3.0
    assert all(math.isnan(x) for x in mean_interval([math.nan], ["a"]))
    assert mean_interval([2.0, 4.0], ["a", "a"]) == (3.0, 3.0, 3.0)
