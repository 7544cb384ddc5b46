import itertools
import math

import pytest
import torch

from voxkit.search.attention import attention_beam, attention_rescore
from voxkit.search.context_graph import ContextGraph
from voxkit.search.ctc_prefix import CtcPrefixScorer
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.search.reference import ctc_exhaustive
from voxkit.search.scorer import TokenBonus, Weighted

VOCAB = 6  # 0 blank, 1 bos, 2 eos, 3 4 5


class State:
    def __init__(self, mean, history):
        self.mean, self.history = mean, history

    def select(self, index):
        return State(self.mean[index], self.history[index])

    @property
    def attention(self):
        return torch.full((len(self.mean), 4), 0.25)


class Toy(torch.nn.Module):
    """Depends on the mean of valid memory and on the whole history, so that wrong reordering shows."""

    bos, eos = 1, 2

    def __init__(self, seed=0, dim=3):
        super().__init__()
        torch.manual_seed(seed)
        self.table, self.position, self.mix = torch.randn(VOCAB, 8), torch.randn(30, 8), torch.randn(dim, 8)
        self.out = torch.randn(8, VOCAB)
        self.out[:, 2] *= 0.5

    def log_probs(self, mean, history):
        x = (self.table[history] * self.position[: history.shape[1]]).sum(1) + mean @ self.mix
        return (x.tanh() @ self.out).log_softmax(-1)

    def init_state(self, memory, lengths):
        mask = torch.arange(memory.shape[1])[None] < lengths[:, None]
        mean = torch.where(mask[..., None], memory, 0.0).sum(1) / lengths[:, None]
        return State(mean, torch.zeros(len(memory), 0, dtype=torch.long))

    def step(self, tokens, state):
        history = torch.cat([state.history, tokens[:, None]], 1)
        return self.log_probs(state.mean, history), State(state.mean, history)

    def whole(self, memory, tokens):
        history, total = [1], 0.0
        for token in (*tokens, 2):
            total += float(self.log_probs(memory.mean(0, keepdim=True), torch.tensor([history]))[0, token])
            history.append(token)
        return total

    def score_sequences(self, memory, lengths, tokens, token_lengths):
        return torch.tensor([[self.whole(memory[b, : lengths[b]], tokens[b, n, : token_lengths[b, n]].tolist())
                              for n in range(tokens.shape[1])] for b in range(len(memory))])


def sequences(longest):
    return [s for n in range(longest + 1) for s in itertools.product((3, 4, 5), repeat=n)]


@pytest.fixture
def scene():
    torch.manual_seed(1)
    return Toy(), torch.randn(3, 4, 3), torch.randn(3, 4, VOCAB).log_softmax(-1), torch.tensor([4, 4, 4])


def test_ctc_prefix_scores_are_the_sums(scene):
    _, _, x, lengths = scene
    every = [ctc_exhaustive(u.tolist()) for u in x]
    ctc = CtcPrefixScorer(x, lengths)
    for prefix in [(3,), (3, 3), (4, 5, 4), (1, 2, 3)]:
        state = ctc.init(1)
        for token in prefix:
            tokens = torch.full((3, 1), token)
            scores = ctc.score(state, tokens)[:, 0]
            state = ctc.advance(state, tokens[:, 0], scores)
        for b in range(3):
            mass = [p for s, p in every[b].items() if s[: len(prefix)] == prefix]
            truth = torch.tensor(mass).logsumexp(0) if mass else torch.tensor(-math.inf)
            assert float(state.score[b]) == pytest.approx(float(truth), abs=1e-5)
            assert float(ctc.final(state)[b]) == pytest.approx(every[b].get(prefix, -math.inf), abs=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_wide_beam_finds_the_best(scene, weight):
    toy, memory, x, lengths = scene
    graph = ContextGraph([[3, 5]], VOCAB, 0.7)
    found = attention_beam(toy, memory, lengths, beam=200, candidates=3, nbest=5, ctc_log_probs=x if weight else None, ctc_weight=weight,
                           scorer=graph, token_bonus=0.2, patience=100.0)
    for b in range(3):
        every = ctc_exhaustive(x[b].tolist())
        ranked = []
        for s in sequences(4):
            state, fused = graph.init(1, torch.device("cpu")), 0.2 * len(s)
            for t in s:
                fused += float(graph.score(state, torch.tensor([[t]])))
                state = graph.advance(state, torch.tensor([t]))
            fused += float(graph.final(state))
            ctc = weight * every.get(s, -math.inf) if weight else 0.0
            ranked.append(((1 - weight) * toy.whole(memory[b], s) + ctc + fused, s))
        ranked.sort(reverse=True)
        assert [tuple(h.tokens) for h in found[b]] == [s for _, s in ranked[:5]]
        assert [h.score for h in found[b]] == pytest.approx([p for p, _ in ranked[:5]], abs=1e-4)
        assert all(len(h.token_log_probs) == len(h.tokens) for h in found[b])


class Reluctant:
    """Would rather say nothing; once it has begun it goes on and on."""

    bos, eos = 1, 2

    def init_state(self, memory, lengths):
        return State(memory, torch.zeros(len(memory), 0, dtype=torch.long))

    def step(self, tokens, state):
        first, later = torch.tensor([0.1, 0.1, 0.5, 0.1, 0.1, 0.1]), torch.tensor([0.01, 0.01, 0.05, 0.91, 0.01, 0.01])
        return torch.where((tokens == 1)[:, None], first, later).log(), state


@pytest.mark.parametrize("scorer", [TokenBonus(1.0), Weighted(TokenBonus(0.5), 1.0, bonus=0.5), ContextGraph([[3], [4], [5]], VOCAB, 1.0)])
def test_what_a_scorer_adds_keeps_the_search_open(scorer):
    """The search does not stop at a finished hypothesis that is ahead now, where a longer one may still earn its way past it."""
    memory, lengths = torch.zeros(1, 8, 3), torch.tensor([8])
    bonus = attention_beam(Reluctant(), memory, lengths, 3, token_bonus=1.0)[0][0]
    found = attention_beam(Reluctant(), memory, lengths, 3, scorer=scorer)[0][0]
    assert found.tokens == bonus.tokens == [3] * 8 and found.score == pytest.approx(bonus.score)


class Looping(Reluctant):
    """Says 3 4 and would end; once it has gone on it says 5 again and again, at next to no cost."""

    def step(self, tokens, state):
        likely = {1: (3, 0.9), 3: (4, 0.9), 4: (2, 0.9), 5: (5, 0.95)}
        rows = [likely[token] for token in tokens.tolist()]
        rest = torch.tensor([[(1 - p) / (VOCAB - 1)] * VOCAB for _, p in rows])
        return rest.scatter(1, torch.tensor([[token] for token, _ in rows]), torch.tensor([[p] for _, p in rows])).log(), state


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_a_bonus_does_not_pay_for_more_than_is_heard(power):
    """Without a limit a bonus above a token's cost carries the beam to the last frame."""
    memory, lengths = torch.zeros(1, 30, 3), torch.tensor([30])
    how = {"beam": 3, "token_bonus": 2.0, "length_power": power}
    assert len(attention_beam(Looping(), memory, lengths, **how)[0][0].tokens) == 30
    found = attention_beam(Looping(), memory, lengths, expected=torch.tensor([2.5]), **how)[0][0]
    assert found.tokens == [3, 4] and found.parts["fused"] == pytest.approx(4.0)
    more = attention_beam(Looping(), memory, lengths, expected=torch.tensor([1.25]), **how)[0][0]
    assert more.tokens == [3, 4] and more.parts["fused"] == pytest.approx(2.5)  # a quarter of a token's bonus for the second


def test_phrases_cannot_carry_the_beam_on_and_on():
    memory, lengths, boosted = torch.zeros(1, 30, 3), torch.tensor([30]), ContextGraph([[5]], VOCAB, 4.0)
    assert len(attention_beam(Looping(), memory, lengths, 3, scorer=boosted)[0][0].tokens) == 30
    found = attention_beam(Looping(), memory, lengths, 3, scorer=boosted, expected=torch.tensor([2.0]), length_limit=1.5)[0][0]
    assert len(found.tokens) == 6  # 1.5 times as many, and three more
    assert len(attention_beam(Looping(), memory, lengths, 3, scorer=boosted, expected=torch.tensor([100.0]))[0][0].tokens) == 30


def test_a_ctc_weight_of_zero_is_attention_alone(scene):
    """Also where a hypothesis does not fit into the frames, so that CTC gives it minus infinity."""
    toy, memory, x, lengths = scene
    how = {"beam": 5, "nbest": 5, "token_bonus": 3.0, "patience": 100.0}
    alone = attention_beam(toy, memory, lengths, **how)
    joint = attention_beam(toy, memory, lengths, ctc_log_probs=x, ctc_weight=0.0, **how)
    assert [[(h.tokens, h.score) for h in row] for row in joint] == [[(h.tokens, h.score) for h in row] for row in alone]


@pytest.mark.parametrize("how", [{}, {"length_power": 0.7}, {"coverage": 0.2}, {"joint": True}])
def test_batch_equals_single(scene, how):
    toy, memory, x, _ = scene
    how, lengths = dict(how), torch.tensor([4, 2, 0])
    joint = how.pop("joint", False)
    padded, scores = memory.clone(), x.clone()
    for b, n in enumerate(lengths):
        padded[b, n:], scores[b, n:] = 1e3, math.nan
    batch = attention_beam(toy, padded, lengths, 3, nbest=3, ctc_log_probs=scores if joint else None, **how)
    for b, n in enumerate(lengths.tolist()):
        if n == 0:
            assert batch[b][0].tokens == []
            continue
        single_memory = memory[b:b + 1] if "coverage" in how else memory[b:b + 1, :n]
        single = attention_beam(toy, single_memory, lengths[b:b + 1], 3, nbest=3, ctc_log_probs=x[b:b + 1, :n] if joint else None, **how)[0]
        assert [h.tokens for h in batch[b]] == [h.tokens for h in single]
        assert [h.score for h in batch[b]] == pytest.approx([h.score for h in single], abs=1e-4)


def test_greedy_is_beam_one(scene):
    toy, memory, _, lengths = scene
    found = attention_beam(toy, memory, lengths, 1, max_tokens_per_frame=5, candidates=3)
    for b in range(3):
        history = [1]
        while len(history) <= 20:
            log_probs = toy.log_probs(memory[b].mean(0, keepdim=True), torch.tensor([history]))[0]
            log_probs[:2] = -math.inf
            token = int(log_probs.argmax())
            if token == 2:
                break
            history.append(token)
        assert found[b][0].tokens == history[1:]


def test_rescoring(scene):
    toy, memory, x, lengths = scene
    first = ctc_prefix_beam(x, lengths, 6, nbest=6)
    first = [[h for h in row if not {1, 2} & set(h.tokens)] for row in first]
    first[1] = first[1][:1]
    again = attention_rescore(first, memory, lengths, toy.score_sequences, ctc_weight=0.3)
    for b, row in enumerate(again):
        assert len(row) == len(first[b]) and row == sorted(row, key=lambda h: -h.score)
        for h in row:
            assert h.score == pytest.approx(0.7 * toy.whole(memory[b], h.tokens) + 0.3 * h.parts["ctc"], abs=1e-4)
    assert attention_rescore([[CtcHypothesis([], 0.0)]], memory[:1], lengths[:1], toy.score_sequences)[0][0].tokens == []
    silent = [[CtcHypothesis([3], -math.inf, ctc_score=-math.inf)]]  # a text that CTC cannot say, where CTC does not count
    found = attention_rescore(silent, memory[:1], lengths[:1], toy.score_sequences, ctc_weight=0.0)[0][0]
    assert found.score == pytest.approx(toy.whole(memory[0], [3]), abs=1e-4)


def test_bad_input(scene):
    toy, memory, x, lengths = scene
    with pytest.raises(ValueError, match="same encoder states"):
        attention_beam(toy, memory, lengths, ctc_log_probs=x[:, :3])
    with pytest.raises(ValueError, match="ctc_weight is 2"):
        attention_beam(toy, memory, lengths, ctc_weight=2.0)
    with pytest.raises(ValueError, match="expected has the shape"):
        attention_beam(toy, memory, lengths, expected=torch.ones(2))
