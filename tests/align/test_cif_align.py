"""Fire times become word times."""

import pytest
import torch

from tests.text.vocabularies import Pieces
from voxkit.align.cif import sound_ends, spans_from_fires
from voxkit.align.spans import TokenSpan
from voxkit.align.words import words_from_tokens
from voxkit.ops.cif import cif

PIECES = Pieces(["<pad>", "<s>", "</s>", "<unk>", "▁", "▁he", "al", "m", "e"])
LOUD = [0.4] * 12


def test_pauses_belong_to_no_word():
    spans = spans_from_fires([4, 7, 8, 4, 7], [2.5, 4.0, 6.25, 10.0, 12.0], [-0.1] * 5, PIECES, LOUD)
    words = words_from_tokens(spans, PIECES, 0.1)
    assert [(w.word, round(w.start, 3), round(w.end, 3)) for w in words] == [("me", 0.25, 0.625), ("m", 1.0, 1.2)]


def test_pieces_with_letters_last_from_fire_to_fire():
    words = words_from_tokens(spans_from_fires([5, 6], [3.0, 5.0], [-0.5, -1.5], PIECES, LOUD), PIECES, 0.04)
    assert (words[0].word, words[0].start, words[0].end) == ("heal", 0.0, pytest.approx(0.2))
    assert words[0].confidence == pytest.approx(2.718281828 ** -1.0)


def test_a_word_ends_before_the_pause_that_its_last_token_fires_after():
    weights = torch.tensor([[0.7, 0.6, 0.6, 0.02, 0.03, 0.8, 0.5, 0.0, 0.0, 0.9]])
    times = cif(torch.zeros(1, 10, 1), weights, torch.tensor([4])).times[0].tolist()
    assert times[1] == pytest.approx(5 + 0.05 / 0.8) and times[3] == pytest.approx(9 + 0.75 / 0.9)
    ends = sound_ends(weights[0].tolist(), times)
    assert ends == [times[0], 3.0, times[2], times[3]]  # the last has less before its pause than after it
    spans = spans_from_fires([5, 6, 5, 6], times, [0.0] * 4, PIECES, weights[0].tolist())
    words = words_from_tokens(spans, PIECES, 0.1)
    assert words[0].end == pytest.approx(0.3) and words[1].start == pytest.approx(0.1 * times[1])  # the next begins at its onset


def test_a_little_of_the_next_onset_may_come_before_the_fire():
    """The word lacks 0.2, the onset of the next gives it 0.11 and then the rest. With much more it is sound of its own."""
    weights = [0.5, 0.3, 0.01, 0.02, 0.11, 0.9, 0.3]
    fires = [5 + 0.06 / 0.9]
    assert sound_ends(weights, fires) == [2.0]
    assert sound_ends([0.5, 0.1, 0.01, 0.02, 0.25, 0.9, 0.3], fires) == fires
    assert sound_ends([0.11, 0.9], [1 + 0.89 / 0.9]) == [1 + 0.89 / 0.9]  # no silence


def test_silence_before_a_token_is_not_its_end():
    """All of it comes after the pause: nothing is there that could have ended before."""
    weights = [0.0, 0.0, 0.0, 0.9, 0.3, 0.05, 0.05, 0.7]
    assert sound_ends(weights, [4 + 1 / 3, 8.0]) == [4 + 1 / 3, 8.0]
    assert sound_ends([0.9, 2.6], [1 + 0.1 / 2.6, 1 + 1.1 / 2.6, 1 + 2.1 / 2.6]) == [1 + 0.1 / 2.6, 1 + 1.1 / 2.6, 1 + 2.1 / 2.6]
    assert sound_ends([], []) == []


def test_lists_that_do_not_belong_together():
    with pytest.raises(ValueError, match="2 tokens, 1 times"):
        spans_from_fires([5, 6], [3.0], [-0.5, -1.5], PIECES, LOUD)


def test_an_unknown_piece_is_a_word_of_its_own_as_the_tokenizer_decodes_it():
    spans = [TokenSpan(token, i, i + 1, -0.1, -0.1) for i, token in enumerate([5, 6, 3, 7, 8, 3, 3])]
    assert [w.word for w in words_from_tokens(spans, PIECES, 0.1)] == ["heal", "⁇", "me", "⁇", "⁇"]
