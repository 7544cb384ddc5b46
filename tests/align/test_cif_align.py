"""Fire times become word times."""

import pytest

from voxkit.align.cif import spans_from_fires
from voxkit.align.words import words_from_tokens

PIECES = ["<pad>", "<s>", "</s>", "<unk>", "▁", "▁he", "al", "m", "e"]


def test_pauses_belong_to_no_word():
    spans = spans_from_fires([4, 7, 8, 4, 7], [2.5, 4.0, 6.25, 10.0, 12.0], [-0.1] * 5, PIECES)
    words = words_from_tokens(spans, PIECES, 0.1)
    assert [(w.word, round(w.start, 3), round(w.end, 3)) for w in words] == [("me", 0.25, 0.625), ("m", 1.0, 1.2)]


def test_pieces_with_letters_last_from_fire_to_fire():
    words = words_from_tokens(spans_from_fires([5, 6], [3.0, 5.0], [-0.5, -1.5], PIECES), PIECES, 0.04)
    assert (words[0].word, words[0].start, words[0].end) == ("heal", 0.0, pytest.approx(0.2))
    assert words[0].confidence == pytest.approx(2.718281828 ** -1.0)


def test_lists_that_do_not_belong_together():
    with pytest.raises(ValueError, match="2 tokens, 1 times"):
        spans_from_fires([5, 6], [3.0], [-0.5, -1.5], PIECES)
