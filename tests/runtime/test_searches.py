"""The searches without torch give what those with it give."""

import numpy as np
import pytest
import torch

from voxkit.runtime.greedy import Greedy
from voxkit.runtime.prefix_beam import PrefixBeam
from voxkit.runtime.scorers import Bonus, Ngram, Phrases, combine
from voxkit.search.context_graph import ContextGraph
from voxkit.search.greedy import ctc_greedy
from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.ngram_table import NgramTable
from voxkit.search.phrase_table import PhraseTable
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.search.scorer import combine as torch_combine

VOCAB = 12
PIECES = ["<blk>", "<s>", "</s>", "<unk>", *"abcdefgh"]
TEXTS = [list(text) for text in ("abcab", "abdde", "cabh", "ffgab", "hgfed", "abcabc")]
PHRASES = [[4, 5, 6], [7, 7], [10]]


def posteriors(seed, frames=30, blank=3.0):
    """[T, V] like a trained model's: mostly blank, a few tokens open."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(frames, VOCAB, generator=generator)
    scores[:, 0] += blank * (torch.rand(frames, generator=generator) > 0.3) * 3
    return scores.log_softmax(-1)


def pieces_of(x, seed):
    """The same in chunks of random sizes, empty ones among them."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(x) + 1, 4))
    return np.split(x, cuts)


@pytest.mark.parametrize("seed", range(8))
def test_greedy_whole_and_in_chunks(seed):
    scores = posteriors(seed, blank=0.5)
    (expected,) = ctc_greedy(scores[None], torch.tensor([len(scores)]))
    search = Greedy()
    for parts in ([scores.numpy()], pieces_of(scores.numpy(), seed)):
        state = search.init()
        for part in parts:
            state = search.advance(state, part)
        (found,) = search.nbest(state)
        assert (found.tokens, found.frames) == (expected.tokens, expected.frames)
        np.testing.assert_allclose(found.token_log_probs, expected.token_log_probs, rtol=1e-5)
        assert found.score == pytest.approx(expected.score, rel=1e-5)


def same(found, expected):
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    for one, other in zip(found, expected):
        assert one.score == pytest.approx(other.score, rel=1e-4, abs=1e-3)
        assert one.ctc_score == pytest.approx(other.ctc_score, rel=1e-4, abs=1e-3)
        assert one.frames == other.frames
        np.testing.assert_allclose(one.token_log_probs, other.token_log_probs, rtol=1e-4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("beam", [1, 4, 10])
def test_prefix_beam(seed, beam):
    scores = posteriors(seed)
    (expected,) = ctc_prefix_beam(scores[None], torch.tensor([len(scores)]), beam, nbest=3, engine="tensor")
    search = PrefixBeam(beam)
    for parts in ([scores.numpy()], pieces_of(scores.numpy(), seed)):
        state = search.init()
        for part in parts:
            search.advance(state, part)
        same(search.nbest(state, 3), expected)


@pytest.mark.parametrize("which", [("lm",), ("phrases",), ("bonus",), ("lm", "phrases"), ("lm", "phrases", "bonus")])
@pytest.mark.parametrize("seed", range(4))
def test_prefix_beam_with_scorers(which, seed):
    model = train(TEXTS, 3, vocabulary=PIECES[4:])
    starts = [i % 2 == 0 for i in range(VOCAB)]
    graph = ContextGraph(PHRASES, VOCAB, [1.5, 3.0, 0.7], starts) if "phrases" in which else None
    bonus = 0.4 if "bonus" in which else 0.0
    theirs = torch_combine(NgramScorer(model, PIECES) if "lm" in which else None, 0.5, context=graph, bonus=bonus)
    ours = combine([Ngram(NgramTable(model, PIECES), 0.5) if "lm" in which else None, Bonus(bonus) if bonus else None,
                    Phrases(PhraseTable(PHRASES, VOCAB, [1.5, 3.0, 0.7], starts)) if graph else None])
    scores = posteriors(seed)
    (expected,) = ctc_prefix_beam(scores[None], torch.tensor([len(scores)]), 6, nbest=4, scorer=theirs)
    search = PrefixBeam(6, scorer=ours)
    state = search.init()
    for part in pieces_of(scores.numpy(), seed):
        search.advance(state, part)
    same(search.nbest(state, 4), expected)


def test_nothing_and_silence():
    search = PrefixBeam(3)
    assert search.nbest(search.init())[0].tokens == []
    silence = np.log(np.array([[0.995] + [0.005 / (VOCAB - 1)] * (VOCAB - 1)] * 5, np.float32))
    state = search.advance(search.init(), silence)
    assert search.nbest(state)[0].tokens == [] and search.nbest(state)[0].score == pytest.approx(5 * np.log(0.995), rel=1e-5)


def test_a_long_utterance_does_not_underflow():
    scores = posteriors(3, frames=4000, blank=0.0)
    (expected,) = ctc_prefix_beam(scores[None], torch.tensor([len(scores)]), 4, engine="tensor")
    state = PrefixBeam(4).advance(PrefixBeam(4).init(), scores.numpy())
    (found,) = PrefixBeam(4).nbest(state)
    assert found.tokens == expected[0].tokens and found.score == pytest.approx(expected[0].score, rel=1e-4)
