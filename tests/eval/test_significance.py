import math
import random

import numpy as np
import pytest

from voxkit.eval.intervals import bootstrap_interval
from voxkit.eval.significance import mapsswe, permutation_test
from voxkit.eval.table import interval_cell
from voxkit.eval.wer import score


def noisy(references, rate, seed):
    rng = random.Random(seed)
    return {k: " ".join("wrong" if rng.random() < rate else w for w in v.split()) for k, v in references.items()}


REFERENCES = {f"u{i}": " ".join(f"w{random.Random(i * 31 + j).randint(0, 50)}" for j in range(12)) for i in range(200)}


def test_bootstrap_covers_and_narrows():
    rng = np.random.default_rng(0)
    words = np.full(300, 10)
    covered = 0
    for trial in range(100):
        low, high = bootstrap_interval(rng.binomial(10, 0.1, 300), words, samples=500, seed=trial)
        covered += low <= 0.1 <= high
    assert covered >= 88  # 95 expected; fixed seeds
    few = bootstrap_interval(rng.binomial(10, 0.1, 30), words[:30], samples=1000)
    assert high - low < few[1] - few[0]


def test_bootstrap_over_speakers_is_wider_when_speakers_differ():
    errors = [0] * 100 + [5] * 100
    speakers = [f"s{i // 20}" for i in range(200)]
    by_speaker = bootstrap_interval(errors, [10] * 200, speakers, samples=2000)
    by_utterance = bootstrap_interval(errors, [10] * 200, samples=2000)
    assert by_speaker[1] - by_speaker[0] > 2 * (by_utterance[1] - by_utterance[0])
    assert bootstrap_interval(errors, [10] * 200, seed=3) == bootstrap_interval(errors, [10] * 200, seed=3)


@pytest.mark.parametrize("errors, words, groups", [
    ([1], [4], None), ([0], [4], None), ([1, 2], [4, 8], None), ([0, 0, 0], [3, 4, 5], None), ([1, 0, 2], [4, 4, 9], ["s", "s", "s"])])
def test_what_cannot_be_resampled_has_no_interval(errors, words, groups):
    assert bootstrap_interval(errors, words, groups) is None
    assert interval_cell(None) == "–"


def test_an_interval_in_percent():
    assert interval_cell(bootstrap_interval([1, 0], [4, 4], samples=100)) == "0.00-25.00"


@pytest.mark.parametrize("test", [mapsswe, permutation_test])
def test_tests_tell_difference_from_chance(test):
    a, same, worse = (score(REFERENCES, noisy(REFERENCES, rate, seed)) for rate, seed in [(0.1, 1), (0.1, 2), (0.2, 3)])
    assert test(a, same).p > 0.05
    assert test(a, worse).p < 0.001 and test(a, worse).difference < 0
    assert test(a, a).p == 1.0


def test_mapsswe_segments_by_hand():
    reference = {"u": "a b c d e f g h i"}
    x = score(reference, {"u": "X b c d Y f g h Z"})  # three segments, each cut by two good words
    y = score(reference, {"u": "a b c d Y f g h i"})
    result = mapsswe(x, y)
    assert result.n == 3  # differences 1, 0, 1
    assert result.statistic == pytest.approx((2 / 3) / (np.std([1, 0, 1], ddof=1) / math.sqrt(3)))


def test_mapsswe_counts_the_word_behind_an_insertion():
    reference = {"u": "a b c d e"}
    x = score(reference, {"u": "X b Z c d Y"})  # Z is inserted; c and d are two good words, which part Y from it
    assert mapsswe(x, score(reference, reference)).n == 2


@pytest.mark.parametrize("wrong, p", [("X b c d e f g", 1.0), ("X b c Y e f g", 0.5), ("X b c Y e f Z", 0.25)])
def test_mapsswe_is_not_sure_of_a_few_equal_segments(wrong, p):
    reference = {"u": "a b c d e f g"}
    assert mapsswe(score(reference, {"u": wrong}), score(reference, reference)).p == p


def test_results_must_match():
    a, b = score({"u": "x"}, {"u": "x"}), score({"v": "x"}, {"v": "x"})
    with pytest.raises(ValueError, match="same"):
        mapsswe(a, b)
