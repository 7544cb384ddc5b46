import numpy as np
import pytest

from tests.text.vocabularies import Pieces
from voxkit.align.attention import attention_spans, best_heads, spoken_spans
from voxkit.align.dtw import dtw, dtw_reference, median_filter


def staircase(starts, frames, heads=3, noise=0.05):
    x = noise * np.random.default_rng(0).random((2, heads, len(starts), frames))
    for u, start in enumerate(starts):
        end = starts[u + 1] if u + 1 < len(starts) else frames
        x[1, :, u, start:end] += 1
    return x / x.sum(-1, keepdims=True)


def test_token_times_from_attention():
    weights = staircase([0, 5, 9, 20, 24], 30)
    spans = attention_spans(weights, [7, 8, 9, 7], [-0.1] * 4, heads=[(1, 0), (1, 2)], width=3)
    assert [s.start for s in spans] == pytest.approx([0, 5, 9, 20], abs=1)
    assert [s.end for s in spans] == pytest.approx([5, 9, 20, 24], abs=1)
    assert attention_spans(weights[1], [7], width=3)[0].token == 7
    with pytest.raises(ValueError, match="do not fit"):
        attention_spans(weights, list(range(9)))


def test_rows_of_a_prompt_and_frames_of_padding_are_no_part_of_the_path():
    weights = staircase([0, 5, 9, 20, 24], 30)[1]
    weights = np.concatenate([np.full((3, 2, 30), 1 / 30), weights], axis=1)  # a prompt that looks nowhere
    weights = np.concatenate([0.5 * weights, np.full((3, 7, 20), 0.025)], axis=2)  # half of the attention on what is cut off
    spans = attention_spans(weights, [7, 8, 9, 7], frames=30, width=3, first=2)
    assert [s.start for s in spans] == pytest.approx([0, 5, 9, 20], abs=1) and spans[-1].end == pytest.approx(24, abs=1)


def test_pauses_belong_to_no_word():
    """A mark takes the pause it stands for, and a word at the border of a sentence takes the silence."""
    vocabulary = Pieces(["<b>", "▁so", "▁it", "▁is", "▁done", ".", ",", "▁go"])
    tokens, starts = [1, 2, 6, 3, 4, 5, 7], [0, 55, 60, 80, 85, 90, 130, 140]
    spans = spoken_spans(staircase(starts, 150)[1], tokens, [-0.5] * 7, vocabulary, frames=150)
    assert [s.token for s in spans] == tokens
    found = [(round(s.start), round(s.end)) for s in spans]
    first = found[0]
    assert first[1] == pytest.approx(55, abs=1) and 10 < first[1] - first[0] <= 20  # 55 frames of which most are silence
    assert found[1] == (pytest.approx(55, abs=1), pytest.approx(60, abs=1)) and found[2][0] == found[2][1] == found[1][1]
    assert found[4] == (pytest.approx(85, abs=1), pytest.approx(90, abs=1)) and found[5][0] == found[5][1] == found[4][1]
    assert found[6] == (pytest.approx(130, abs=1), pytest.approx(140, abs=1))
    assert spoken_spans(staircase([0], 9)[1], [], [], vocabulary, frames=9) == []


def test_heads_that_align_are_found():
    weights = staircase([0, 5, 9, 20], 30)
    heads = best_heads([(weights, [2.0, 7.0, 14.0, 25.0])], 3)
    assert {layer for layer, _ in heads} == {1}


def test_dtw_equals_reference():
    cost = np.random.default_rng(0).standard_normal((3, 7, 12))
    lengths = [[7, 12], [4, 9], [1, 5]]
    for b, (rows, columns) in enumerate(dtw(cost, lengths)):
        truth = dtw_reference(cost[b, : lengths[b][0], : lengths[b][1]])
        assert rows.tolist() == truth[0].tolist() and columns.tolist() == truth[1].tolist()
    path = dtw(1 - np.eye(5)[None])[0]
    assert path[0].tolist() == path[1].tolist() == list(range(5))


def test_median_filter():
    x = np.array([[0.0, 9.0, 0.0, 1.0, 1.0, 1.0]])
    assert median_filter(x, 3).tolist() == [[9.0, 0.0, 1.0, 1.0, 1.0, 1.0]]
    assert median_filter(x[:, :1], 7).tolist() == [[0.0]]
    with pytest.raises(ValueError, match="odd"):
        median_filter(x, 4)
