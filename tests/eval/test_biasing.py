"""Phrase lists: made, and judged."""

import pytest

from voxkit.eval.biasing import biasing, rare_words
from voxkit.eval.wer import score


def test_recall_and_the_rest():
    references = {"a": "GO TO NORTH GATE NOW", "b": "NORTH GATE", "c": "HEAL ME", "d": "PUSH"}
    hypotheses = {"a": "GO TO NORTH GATE NOW", "b": "NORTH LATE", "c": "HEAL NORTH GATE", "d": "PUSH"}
    found = biasing(score(references, hypotheses), ["NORTH GATE", "HEALER"])
    assert (found.said, found.found, found.false) == (2, 1, 1) and found.recall == 0.5
    assert [u.id for u in found.others.utterances] == ["c", "d"] and found.others.rate == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="none of the 1 phrases"):
        biasing(score(references, hypotheses), ["TOWER"])


def test_rare_words():
    train, test = ["ALPHA COMMON COMMON", "BETAS GAMMA COMMON"], ["COMMON ALPHA DELTA DELTA AXE"]
    words = rare_words(train, test, said=2, total=4)
    assert words[:2] == ["DELTA", "ALPHA"] and set(words[2:]) == {"BETAS", "GAMMA"}
    assert words == rare_words(train, test, said=2, total=4)
    with pytest.raises(ValueError, match="not to be had"):
        rare_words(train, test, said=3, total=4)
