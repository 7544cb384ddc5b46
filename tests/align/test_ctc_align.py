import math
from types import SimpleNamespace

import pytest
import torch

from tests.text.vocabularies import Pieces
from voxkit.align.ctc import forced_align
from voxkit.align.spans import spans_from_peaks
from voxkit.align.timing import WordTiming
from voxkit.align.words import fit_word_timing, words_from_tokens
from voxkit.hypothesis import Word
from voxkit.search.greedy import ctc_greedy

LENGTHS, TOKEN_LENGTHS = torch.tensor([30, 17, 9, 4]), torch.tensor([8, 5, 1, 0])


@pytest.fixture
def scene():
    torch.manual_seed(0)
    x = torch.randn(4, 30, 7).log_softmax(-1)
    tokens = torch.randint(1, 7, (4, 8))
    tokens[0, 2:4] = tokens[0, 1]  # repetitions need a blank between
    return x, tokens


def test_agrees_with_torchaudio(scene):
    functional = pytest.importorskip("torchaudio.functional")
    x, tokens = scene
    found = forced_align(x, LENGTHS, tokens, TOKEN_LENGTHS)
    for b in range(3):
        n, u = int(LENGTHS[b]), int(TOKEN_LENGTHS[b])
        path, scores = functional.forced_align(x[b:b + 1, :n], tokens[b:b + 1, :u], blank=0)
        assert found[b].score == pytest.approx(float(scores.sum()), abs=1e-4)
        theirs = functional.merge_tokens(path[0], scores[0], blank=0)
        assert [(s.token, s.start, s.end) for s in found[b].spans] == [(s.token, s.start, s.end) for s in theirs]
        assert [s.log_prob for s in found[b].spans] == pytest.approx([s.score for s in theirs], abs=1e-4)
    assert found[3].spans == [] and found[3].score == pytest.approx(float(x[3, :4, 0].sum()), abs=1e-4)


def test_batch_equals_single(scene):
    x, tokens = scene
    padded = x.clone()
    for b in range(4):
        padded[b, LENGTHS[b]:] = math.nan
    batch = forced_align(padded, LENGTHS, tokens, TOKEN_LENGTHS)
    for b in range(4):
        single = forced_align(x[b:b + 1, :LENGTHS[b]], LENGTHS[b:b + 1], tokens[b:b + 1, :TOKEN_LENGTHS[b]], TOKEN_LENGTHS[b:b + 1])[0]
        assert single.spans == batch[b].spans and single.score == pytest.approx(batch[b].score, abs=1e-4)


def test_too_much_text_is_named(scene):
    x, tokens = scene
    lengths = torch.tensor([9, 17, 9, 4])  # 8 tokens and two repetitions do not fit
    with pytest.raises(ValueError, match="item 0: 8 tokens"):
        forced_align(x, lengths, tokens, TOKEN_LENGTHS)
    assert forced_align(x, lengths, tokens, TOKEN_LENGTHS, strict=False)[0] is None
    with pytest.raises(ValueError, match="blank"):
        forced_align(x, LENGTHS, tokens * 0, TOKEN_LENGTHS)


PIECES = Pieces(["<pad>", "▁HE", "AL", "<unk>", "▁", "N", "OW", "▁ME"])


def peaks(*places):
    x = torch.full((1, 20, 8), -9.0)
    x[..., 0] = 0
    for t, token in places:
        x[0, t, token] = 9
    return ctc_greedy(x.log_softmax(-1), torch.tensor([20]))[0]


def test_words_from_peaks():
    spans = spans_from_peaks(peaks((1, 1), (3, 2), (6, 7), (10, 4), (11, 5), (12, 6)))
    words = words_from_tokens(spans, PIECES, 0.04, duration=0.8)
    assert [w.word for w in words] == ["HEAL", "ME", "NOW"]
    assert [(w.start, w.end) for w in words] == [pytest.approx(p) for p in ((0.04, 0.16), (0.24, 0.28), (0.40, 0.52))]
    assert all(0.99 < w.confidence <= 1 for w in words)


def test_shifted_words_stay_in_order_and_inside():
    spans = spans_from_peaks(peaks((0, 1), (1, 2), (2, 7), (19, 1)))
    words = words_from_tokens(spans, PIECES, 0.04, timing=WordTiming(-0.1, 0.2), duration=0.8, offset=5.0)
    times = [t for w in words for t in (w.start, w.end)]
    assert times == sorted(times) and times[0] == 5.0 and times[-1] == pytest.approx(5.8)


def test_words_placed_against_their_order_stay_in_order():
    """A fitted timing may put a word before the beginning of the one before it."""
    placed = SimpleNamespace(places=lambda groups, step, duration: [(0.50, 0.55), (0.30, 0.40), (0.35, 0.70)])
    vocabulary = Pieces([*PIECES.pieces[:5], "▁N", "OW", "▁ME"])
    words = words_from_tokens(spans_from_peaks(peaks((1, 1), (6, 7), (11, 5))), vocabulary, 0.04, timing=placed)
    times = [t for w in words for t in (w.start, w.end)]
    assert len(words) == 3 and times == sorted(times)


def test_timing_is_fitted():
    spans = spans_from_peaks(peaks((1, 1), (3, 2), (6, 7), (10, 4), (11, 5), (12, 6)))
    found = words_from_tokens(spans, PIECES, 0.04)
    true = [Word(w.word, w.start - 0.03, w.end + 0.05, 1.0) for w in found]
    timing = fit_word_timing([found, []], [true, true])
    assert (timing.start_shift, timing.end_shift) == pytest.approx((-0.03, 0.05))
    with pytest.raises(ValueError, match="no utterance"):
        fit_word_timing([[]], [true])
