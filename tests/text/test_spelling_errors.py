"""Simulated errors: as many as asked for, the same for the same seed, in any script."""

from __future__ import annotations

import random

import pytest
from rapidfuzz.distance import Levenshtein

from voxkit.text.spelling_errors import misspell

TEXT = "HOLD THE LEFT BRIDGE NOW AND WAIT FOR THE WIZARD AT THE RIVER"


def test_the_rate_is_what_was_asked_for():
    errors = [Levenshtein.distance(TEXT, misspell(TEXT, random.Random(seed), 0.1)) / len(TEXT) for seed in range(600)]
    assert sum(errors) / len(errors) == pytest.approx(0.1 * sum(c != " " for c in TEXT) / len(TEXT), rel=0.15)
    assert min(errors) < 0.02 and max(errors) > 0.15  # clean texts and bad ones


def test_nothing_is_changed_where_no_errors_are_wanted():
    assert misspell("  two   blanks ", random.Random(0), 0.0) == "two blanks"
    assert misspell("", random.Random(0), 0.5, 0.5) == ""


def test_the_seed_decides():
    assert misspell(TEXT, random.Random(7), 0.2, 0.2) == misspell(TEXT, random.Random(7), 0.2, 0.2)
    assert len({misspell(TEXT, random.Random(seed), 0.2, 0.2) for seed in range(20)}) > 15


def test_words_are_left_out_torn_and_joined():
    made = [misspell(TEXT, random.Random(seed), 0.0, 0.3).split() for seed in range(300)]
    size = len(TEXT.split())
    assert any(len(words) < size for words in made) and any(len(words) > size for words in made)
    assert any("LEFTBRIDGE" in words or "THELEFT" in words for words in made)


def test_case_is_kept_and_other_scripts_have_errors_too():
    assert all(misspell(TEXT, random.Random(seed), 0.3).isupper() for seed in range(20))
    assert len({misspell("नमस्ते दुनिया 你好", random.Random(seed), 0.4) for seed in range(20)}) > 5


@pytest.mark.parametrize("rate", [-0.1, 0.6, float("nan")])
def test_rates_that_cannot_be_are_named(rate):
    with pytest.raises(ValueError, match="rate"):
        misspell(TEXT, random.Random(0), rate)
    with pytest.raises(ValueError, match="word_rate"):
        misspell(TEXT, random.Random(0), 0.1, rate)
