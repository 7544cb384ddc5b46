"""Searches over a parallel decoder against exhaustive ones."""

import itertools

import pytest
import torch

from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.parallel import parallel_beam, parallel_greedy

SPECIALS = (0, 1, 2)
PIECES = ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c"]


@pytest.fixture
def scores():
    torch.manual_seed(0)
    return torch.randn(3, 4, len(PIECES)).log_softmax(-1), torch.tensor([4, 2, 0])


@pytest.fixture
def lm():
    return NgramScorer(train([["a", "b", "c"], ["a", "b", "a"], ["b", "b", "c", "a"]], order=2), PIECES)


def _all(log_probs, n, scorer=None, weight=0.0):
    """Every text of n tokens and its score, by brute force."""
    out = {}
    for tokens in itertools.product(range(3, len(PIECES)), repeat=n):
        total = sum(float(log_probs[i, t]) for i, t in enumerate(tokens))
        if scorer is not None:
            state = scorer.init(1, log_probs.device)
            for t in tokens:
                total += weight * float(scorer.score(state, torch.tensor([[t]])))
                state = scorer.advance(state, torch.tensor([t]))
            total += weight * float(scorer.final(state))
        out[tokens] = total
    return sorted(out.items(), key=lambda item: -item[1])


def test_greedy_takes_the_best_of_each_place(scores):
    log_probs, lengths = scores
    found = parallel_greedy(log_probs, lengths, SPECIALS)
    for b, h in enumerate(found):
        best, total = _all(log_probs[b], int(lengths[b]))[0]
        assert tuple(h.tokens) == best and h.score == pytest.approx(total, abs=1e-4)
    assert all(t > 2 for h in found for t in h.tokens)


def test_beam_holds_the_n_best(scores):
    log_probs, lengths = scores
    for b, row in enumerate(parallel_beam(log_probs, lengths, 5, nbest=5, forbidden=SPECIALS)):
        expected = _all(log_probs[b], int(lengths[b]))[:5]
        assert [tuple(h.tokens) for h in row] == [tokens for tokens, _ in expected]
        assert [h.score for h in row] == pytest.approx([score for _, score in expected], abs=1e-4)
        for h in row:
            assert sum(h.token_log_probs) == pytest.approx(h.parts["decoder"], abs=1e-4)


def test_language_model_in_the_beam(scores, lm):
    from voxkit.search.scorer import combine

    log_probs, lengths = scores
    found = parallel_beam(log_probs, lengths, 300, scorer=combine(lm, 0.8), nbest=3, forbidden=SPECIALS, candidates=4)
    for b, row in enumerate(found):
        expected = _all(log_probs[b], int(lengths[b]), lm, 0.8)[:3]
        assert [tuple(h.tokens) for h in row] == [tokens for tokens, _ in expected]
        assert [h.score for h in row] == pytest.approx([score for _, score in expected], abs=1e-3)
    assert [r[0].tokens for r in found] != [h.tokens for h in parallel_greedy(log_probs, lengths, SPECIALS)]


@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_ctc_reranks(scores, weight):
    log_probs, lengths = scores
    torch.manual_seed(2)
    ctc, ctc_lengths = torch.randn(3, 9, len(PIECES)).log_softmax(-1), torch.tensor([9, 7, 5])
    found = parallel_beam(log_probs, lengths, 300, nbest=300, forbidden=SPECIALS,
                          ctc_log_probs=ctc, ctc_lengths=ctc_lengths, ctc_weight=weight)
    for b, row in enumerate(found[:2]):
        for h in row[:5]:
            exact = -torch.nn.functional.ctc_loss(ctc[b, :ctc_lengths[b]], torch.tensor(h.tokens), ctc_lengths[b:b + 1], lengths[b:b + 1],
                                                  reduction="sum")
            assert h.parts["ctc"] == pytest.approx(float(exact), abs=1e-3)
            assert h.score == pytest.approx((1 - weight) * h.parts["decoder"] + weight * float(exact), abs=1e-3)
        assert [h.score for h in row] == sorted((h.score for h in row), reverse=True)


def test_padding_does_not_matter(scores, lm):
    log_probs, lengths = scores
    together = parallel_beam(log_probs, lengths, 4, scorer=lm, forbidden=SPECIALS)
    for b in range(2):
        alone = parallel_beam(log_probs[b:b + 1, :lengths[b]], lengths[b:b + 1], 4, scorer=lm, forbidden=SPECIALS)[0][0]
        assert alone.tokens == together[b][0].tokens and alone.score == pytest.approx(together[b][0].score, abs=1e-4)
    assert together[2][0].tokens == []


def test_options_out_of_range(scores):
    with pytest.raises(ValueError, match="beam of 0"):
        parallel_beam(*scores, 0)
    with pytest.raises(ValueError, match="CTC weight 2"):
        parallel_beam(*scores, 2, ctc_weight=2)


def test_without_special_tokens_every_id_is_text(scores):
    log_probs, lengths = scores
    assert [h.tokens for h in parallel_greedy(log_probs, lengths)] == [row[:n].argmax(-1).tolist() for row, n in zip(log_probs, lengths)]
    best = parallel_beam(log_probs, lengths, 4)
    assert [row[0].tokens for row in best] == [h.tokens for h in parallel_greedy(log_probs, lengths)]
