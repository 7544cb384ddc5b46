import importlib
import itertools
import math

import pytest
import torch

from voxkit.search.ctc_length import expected_tokens
from voxkit.search.greedy import Greedy, ctc_greedy
from voxkit.search.prefix_beam import PrefixBeam, ctc_prefix_beam
from voxkit.search.reference import ctc_exhaustive, ctc_prefix_beam_reference
from voxkit.search.scorer import NeuralScorer, Together, Weighted, combine

EXACT = {"blank_skip": None, "min_log_prob": None, "prune": None}
ENGINES = pytest.mark.parametrize("engine", ["tensor", "arrays", "scalar"])


def scores(batch, frames, vocab, seed=0, sharpness=2.0):
    torch.manual_seed(seed)
    return (torch.randn(batch, frames, vocab) * sharpness).log_softmax(-1)


def peaky(batch, frames, vocab, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(batch, frames, vocab)
    x[..., 0] += 4
    spikes = torch.rand(batch, frames) < 0.3
    x[spikes] += 8 * torch.nn.functional.one_hot(torch.randint(1, vocab, (int(spikes.sum()),)), vocab)
    return (1.5 * x).log_softmax(-1)


class Bigram:
    """A scorer made of a table [V + 1, V] (row V: nothing before), and an end score per token."""

    most = 0.0

    def __init__(self, vocab, seed=5):
        self.table = torch.randn(vocab + 1, vocab, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)

    def init(self, size, device):
        return torch.full((size,), self.table.shape[1])

    def score(self, state, tokens):
        return self.table[state].gather(1, tokens)

    def advance(self, state, tokens):
        return torch.where(tokens >= 0, tokens, state)

    def select(self, state, index):
        return state[index]

    def final(self, state):
        return self.table[state, 0]

    def whole(self, prefix):
        return sum(float(self.table[a, b]) for a, b in zip((self.table.shape[1], *prefix), prefix))


def test_greedy():
    x = scores(3, 12, 5)
    lengths = torch.tensor([12, 7, 0])
    for b, hypothesis in enumerate(ctc_greedy(x, lengths)):
        path = x[b, : lengths[b]].argmax(-1).tolist()
        runs, at = [], 0
        for token, group in itertools.groupby(path):
            n = len(list(group))
            if token:
                runs.append((token, at, float(x[b, at:at + n, token].max())))
            at += n
        assert hypothesis.tokens == [r[0] for r in runs] and hypothesis.frames == [r[1] for r in runs]
        assert hypothesis.token_log_probs == pytest.approx([r[2] for r in runs])
        assert hypothesis.score == pytest.approx(float(x[b, : lengths[b]].max(-1).values.sum()), abs=1e-5)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_greedy_in_chunks_is_the_whole(size):
    """A run across a border is one token, with the place of its beginning and the height of its peak; padding ends nothing early."""
    x, lengths = scores(4, 40, 3, 2), torch.tensor([40, 23, 1, 0])
    search = Greedy()
    state = search.init(4)
    for start in range(0, 40, size):
        before = search.nbest(state)[0][0]
        state = search.advance(state, x[:, start:start + size], (lengths - start).clamp(0, min(size, 40 - start)))
        assert before.tokens == search.nbest(state)[0][0].tokens[:len(before.tokens)]
    runs = 0
    for (found,), whole in zip(search.nbest(state), ctc_greedy(x, lengths)):
        assert (found.tokens, found.frames) == (whole.tokens, whole.frames)
        assert found.token_log_probs == pytest.approx(whole.token_log_probs) and found.score == pytest.approx(whole.score, abs=1e-4)
        runs += len(whole.tokens)
    path = x[0].argmax(-1)
    assert runs and bool(((path[1:] == path[:-1]) & (path[1:] != 0))[size - 1::size].any())  # there are runs across borders


@ENGINES
@pytest.mark.parametrize("seed", range(4))
def test_wide_beam_is_exhaustive(seed, engine):
    x = scores(1, 5, 3, seed)
    truth = sorted(ctc_exhaustive(x[0].tolist()).items(), key=lambda item: -item[1])
    found = ctc_prefix_beam(x, torch.tensor([5]), beam=64, nbest=64, engine=engine, **EXACT)[0]
    assert len(found) == len(truth)
    assert {tuple(h.tokens): pytest.approx(h.score, abs=1e-4) for h in found} == dict(truth)


@pytest.mark.parametrize("beam, seed", [(1, 0), (3, 1), (8, 2), (8, 3)])
@pytest.mark.parametrize("make", [scores, peaky])
@ENGINES
def test_agrees_with_the_reference(beam, seed, make, engine):
    x = make(2, 30, 12, seed)
    found = ctc_prefix_beam(x, torch.tensor([30, 30]), beam=beam, nbest=beam, engine=engine, **EXACT)
    for b in range(2):
        truth = ctc_prefix_beam_reference(x[b].tolist(), beam)
        assert [tuple(h.tokens) for h in found[b]] == [t for t, _ in truth]
        assert [h.score for h in found[b]] == pytest.approx([s for _, s in truth], abs=1e-3)


def test_the_expected_number_of_tokens_is_the_mean_over_all_labellings():
    torch.manual_seed(0)
    x, lengths = (3 * torch.randn(3, 5, 4)).log_softmax(-1), torch.tensor([5, 3, 0])
    x[1, 3:] = math.nan
    found = expected_tokens(x, lengths)
    assert float(found[2]) == 0.0
    for b, n in enumerate(lengths[:2].tolist()):
        every = ctc_exhaustive(x[b, :n].tolist())
        assert float(found[b]) == pytest.approx(sum(len(tokens) * math.exp(p) for tokens, p in every.items()), abs=1e-5)
    sure = torch.full((1, 6, 4), -50.0).scatter(2, torch.tensor([[[1], [1], [0], [1], [2], [0]]]), 0.0)
    assert float(expected_tokens(sure, torch.tensor([6]))) == pytest.approx(3.0)


def test_scorers_are_fused():
    x, lm = scores(1, 20, 6, 7, 1.0), Bigram(6)
    both = Together([Weighted(lm, 0.5, bonus=0.3), Weighted(lm, 0.2)])
    search = PrefixBeam(6, scorer=both, tokens_per_frame=5, **EXACT)
    state = search.advance(search.init(1), x, torch.tensor([20]))
    truth = ctc_prefix_beam_reference(x[0].tolist(), 6, fused=lambda p: 0.7 * lm.whole(p) + 0.3 * len(p))
    found = search.nbest(state, 6, final=False)[0]
    assert [tuple(h.tokens) for h in found] == [t for t, _ in truth]
    assert [h.score for h in found] == pytest.approx([s for _, s in truth], abs=1e-3)
    ended = {tuple(h.tokens): h.score for h in search.nbest(state, 6)[0]}
    for h in found:
        last = h.tokens[-1] if h.tokens else 6
        assert ended[tuple(h.tokens)] == pytest.approx(h.score + 0.7 * float(lm.table[last, 0]), abs=1e-4)


def test_the_usual_scorer():
    x, lm, lengths = scores(1, 20, 6, 7, 1.0), Bigram(6), torch.tensor([20])
    assert combine() is None and combine(lm, 0.0) is None and combine(context=lm) is lm
    a, b = (ctc_prefix_beam(x, lengths, 4, scorer=s)[0][0] for s in (combine(lm, 0.5, context=lm, bonus=0.3), Weighted(lm, 1.5, 0.3)))
    assert a.tokens == b.tokens and a.score == pytest.approx(b.score, abs=1e-4)
    c = ctc_prefix_beam(x, lengths, 4, scorer=combine(bonus=0.5))[0][0]
    assert c.score == pytest.approx(c.ctc_score + 0.5 * len(c.tokens), abs=1e-4)


def test_neural_scorer_equals_table():
    x, lm = scores(2, 15, 6, 9, 1.0), Bigram(6)

    def network(tokens, lengths):  # its bos is 6
        return lm.table[tokens.gather(1, lengths[:, None] - 1)[:, 0]]

    neural = NeuralScorer(network, bos=6, eos=0)
    lengths = torch.tensor([15, 9])
    a, b = (ctc_prefix_beam(x, lengths, 4, nbest=4, scorer=s) for s in (lm, neural))
    assert [[(h.tokens, pytest.approx(h.score, abs=1e-4)) for h in row] for row in a] == [[(h.tokens, h.score) for h in row] for row in b]


@pytest.mark.parametrize("skip", [None, 0.95])
@pytest.mark.parametrize("scorer", [None, Bigram(12)])
def test_batch_equals_single_and_stream_equals_whole(skip, scorer):
    x = peaky(4, 40, 12, 3)
    lengths = torch.tensor([40, 23, 1, 0])
    padded = x.clone()
    for b, n in enumerate(lengths):
        padded[b, n:] = torch.nan
    how = {"blank_skip": skip, "scorer": scorer, "min_log_prob": None, "prune": None}
    batch = ctc_prefix_beam(padded, lengths, 5, nbest=5, engine="tensor", **how)
    search = PrefixBeam(5, **how)
    state = search.init(4)
    for start in range(0, 40, 7):
        state = search.advance(state, x[:, start:start + 7], (lengths - start).clamp(0, min(7, 40 - start)))
    stream = search.nbest(state, 5)
    for b, n in enumerate(lengths.tolist()):
        single = ctc_prefix_beam(x[b:b + 1, :n], torch.tensor([n]), 5, nbest=5, **how)[0]
        for other in (batch[b], stream[b]):
            assert [h.tokens for h in other] == [h.tokens for h in single]
            assert [h.frames for h in other] == [h.frames for h in single]
            assert [h.score for h in other] == pytest.approx([h.score for h in single], abs=1e-3)
    assert batch[3][0].tokens == []


@pytest.mark.parametrize("skip, floor, prune", [(None, None, None), (0.995, -6.0, 12.0), (0.9, -3.0, 4.0)])
def test_engines_agree(skip, floor, prune):
    x = peaky(6, 50, 15, 11)
    lengths = torch.tensor([50, 0, 1, 33, 50, 49])
    how = {"blank_skip": skip, "min_log_prob": floor, "prune": prune}
    x[torch.arange(50) >= lengths[:, None]] = math.nan
    a, *others = (ctc_prefix_beam(x, lengths, 6, nbest=6, engine=e, **how) for e in ("tensor", "scalar", "arrays"))
    for b in others:
        for first, second in zip(a, b):
            assert [h.tokens for h in first] == [h.tokens for h in second]
            assert [h.frames for h in first] == [h.frames for h in second]
            assert [h.score for h in first] == pytest.approx([h.score for h in second], abs=1e-3)
            assert [h.token_log_probs for h in first] == [pytest.approx(h.token_log_probs, abs=1e-5) for h in second]


@pytest.mark.parametrize("make", [scores, peaky])
def test_a_batch_is_searched_as_a_whole_and_one_utterance_alone(make, monkeypatch):
    """The same hypotheses; which engine a batch gets is decided by its size."""
    taken = []
    for name in ("arrays", "scalar"):
        engine = getattr(importlib.import_module(f"voxkit.search.prefix_beam_{name}"), f"{name}_search")
        monkeypatch.setattr(f"voxkit.search.prefix_beam.{name}_search",
                            lambda *given, name=name, engine=engine: taken.append(name) or engine(*given))
    x, lengths = make(32, 60, 40, 4), torch.arange(29, 61)
    batch = ctc_prefix_beam(x, lengths, 10, nbest=3)
    singles = [ctc_prefix_beam(one[None], n[None], 10, nbest=3)[0] for one, n in zip(x, lengths)]
    assert taken == ["arrays", *["scalar"] * 32]
    for first, second in zip(batch, singles):
        assert [(h.tokens, h.frames) for h in first] == [(h.tokens, h.frames) for h in second]
        assert [h.score for h in first] == pytest.approx([h.score for h in second], abs=1e-3)


def test_a_prefix_that_was_dropped_and_comes_back_meets_its_extensions():
    """"a" is pruned while "ab" stays, then is found anew: what it becomes with "b" is "ab", not a second one."""
    for seed in range(20):
        x = scores(1, 12, 4, seed, 3.0)
        for beam in (2, 3):
            truth = ctc_prefix_beam_reference(x[0].tolist(), beam)
            for engine in ("tensor", "arrays", "scalar"):
                found = ctc_prefix_beam(x, torch.tensor([12]), beam, nbest=beam, engine=engine, **EXACT)[0]
                assert [tuple(h.tokens) for h in found] == [tokens for tokens, _ in truth], (seed, beam, engine)
                assert len({tuple(h.tokens) for h in found}) == beam


def test_skipping_sure_blanks_hardly_matters():
    x = peaky(8, 100, 20, 1)
    lengths = torch.full((8,), 100)
    plain, skipped = (ctc_prefix_beam(x, lengths, 8, **how) for how in (EXACT, {"blank_skip": 0.99}))
    assert sum(a[0].tokens == b[0].tokens for a, b in zip(plain, skipped)) >= 7


def test_times_are_peaks():
    x = torch.full((1, 9, 4), -9.0)
    for t, k in enumerate([0, 2, 2, 0, 0, 3, 0, 3, 0]):
        x[0, t, k] = 0
    x[0, 2, 2] = 1
    best = ctc_prefix_beam(x.log_softmax(-1), torch.tensor([9]), 4)[0][0]
    assert best.tokens == [2, 3, 3] and best.frames == [2, 5, 7]
    assert all(-0.01 < p <= 0 for p in best.token_log_probs)


@ENGINES
def test_a_frame_that_allows_nothing(engine):
    x = scores(2, 6, 4)
    x[0, 3] = -math.inf
    found = ctc_prefix_beam(x, torch.tensor([6, 6]), 3, engine=engine)
    assert found[0][0].score == -math.inf and found[0][0].tokens == [] and found[1][0].score > -math.inf


def test_bad_input_is_named():
    x = scores(2, 4, 3)
    with pytest.raises(ValueError, match="4 frames"):
        ctc_prefix_beam(x, torch.tensor([4, 5]))
    with pytest.raises(ValueError, match="item 1.*NaN"):
        ctc_greedy(torch.cat([x[:1], x[:1] * math.nan]), torch.tensor([4, 4]))
    with pytest.raises(ValueError, match="without scorer"):
        ctc_prefix_beam(x, torch.tensor([4, 4]), engine="arrays", scorer=Bigram(3))
    with pytest.raises(ValueError, match="beam is 0"):
        ctc_prefix_beam(x, torch.tensor([4, 4]), 0)
