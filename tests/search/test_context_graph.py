import random

import pytest
import torch

from voxkit.search.context_graph import ContextGraph
from voxkit.search.prefix_beam import PrefixBeam, ctc_prefix_beam

CPU = torch.device("cpu")


def total(graph, tokens):
    state, out = graph.init(1, CPU), 0.0
    for token in tokens:
        out += float(graph.score(state, torch.tensor([[token]])))
        state = graph.advance(state, torch.tensor([token]))
    return out + float(graph.final(state))


def test_a_hypothesis_gets_the_boosts_of_its_phrases():
    graph = ContextGraph([[1, 2, 3], [4], [2, 5]], 8, [1.0, 2.0, 0.5])
    assert total(graph, [1, 2, 3]) == pytest.approx(3.0)
    assert total(graph, [1, 2]) == total(graph, []) == total(graph, [1, 2, 6]) == pytest.approx(0.0)
    assert total(graph, [1, 2, 3, 1, 2, 3, 4]) == pytest.approx(8.0)
    assert total(graph, [1, 1, 2, 3]) == pytest.approx(3.0)
    assert total(graph, [1, 2, 5, 6]) == pytest.approx(1.0)  # by the failure link into the other phrase


def test_phrases_inside_phrases_count_once():
    graph = ContextGraph([[1], [1, 2], [3, 4, 5], [4]], 8, 1.0)
    assert total(graph, [1, 2, 7]) == total(graph, [1, 2]) == pytest.approx(2.0)
    assert total(graph, [1, 7]) == pytest.approx(1.0)
    assert total(graph, [3, 4, 7]) == pytest.approx(1.0)  # only the inner one is whole


def test_of_phrases_that_begin_alike_each_keeps_its_own_boost():
    graph = ContextGraph([[1, 2], [1, 2, 3]], 8, [1.0, 5.0])
    assert total(graph, [1, 2]) == total(graph, [1, 2, 6]) == pytest.approx(2.0)
    assert total(graph, [1, 2, 3]) == total(graph, [1, 2, 3, 6]) == pytest.approx(15.0)
    graph = ContextGraph([[1, 2], [1, 2, 3]], 8, [5.0, 1.0])
    assert total(graph, [1, 2]) == total(graph, [1, 2, 3]) == total(graph, [1, 2, 4]) == pytest.approx(10.0)


def test_most_is_never_passed():
    rng = random.Random(1)
    for _ in range(20):
        phrases = [[rng.randint(0, 3) for _ in range(rng.randint(1, 4))] for _ in range(4)]
        graph = ContextGraph(phrases, 5, [rng.uniform(0.1, 3.0) for _ in phrases], [rng.random() < 0.5 for _ in range(5)])
        state = graph.init(200, CPU)
        for _ in range(6):
            tokens = torch.randint(0, 5, (200, 1))
            assert float(graph.score(state, tokens).max()) <= graph.most + 1e-5 and float(graph.final(state).max()) <= graph.most + 1e-5
            state = graph.advance(state, tokens[:, 0])


def test_only_whole_words():
    starts = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0], dtype=torch.bool)  # 1, 3, 5 begin words
    graph = ContextGraph([[1], [1, 4]], 8, 1.0, starts)
    assert total(graph, [1, 3]) == total(graph, [1]) == pytest.approx(1.0)
    assert total(graph, [1, 2, 3]) == pytest.approx(0.0)  # "heal" in "health"
    assert total(graph, [1, 4, 3]) == pytest.approx(2.0)


def test_random_against_a_plain_search():
    rng = random.Random(0)
    for _ in range(30):
        phrases = [[rng.randint(0, 3) for _ in range(rng.randint(2, 4))] for _ in range(3)]
        graph = ContextGraph(phrases, 6, 1.0)
        # a text whose matches cannot overlap: phrases between tokens of no phrase
        chosen = [rng.choice(phrases) for _ in range(3)]
        alone = [total(graph, p) for p in chosen]
        joined = [t for p in chosen for t in (*p, 5)]
        assert total(graph, joined) == pytest.approx(sum(alone))
        assert all(a >= len(p) - 1e-6 for a, p in zip(alone, chosen))


def test_biasing_changes_the_search_offline_and_streaming():
    x = torch.full((1, 6, 6), -8.0)
    for t, (best, second) in enumerate([(1, 1), (0, 0), (2, 4), (0, 0), (3, 3), (0, 0)]):
        x[0, t, best], x[0, t, second] = 1.0, max(0.5, float(x[0, t, second]) if best == second else 0.5)
        x[0, t, best] = 1.0
    x = x.log_softmax(-1)
    lengths = torch.tensor([6])
    graph = ContextGraph([[1, 4, 3]], 6, 1.0)
    assert ctc_prefix_beam(x, lengths, 8)[0][0].tokens == [1, 2, 3]
    assert ctc_prefix_beam(x, lengths, 8, scorer=graph)[0][0].tokens == [1, 4, 3]
    search = PrefixBeam(8, scorer=graph)
    state = search.init(1)
    for t in range(6):
        state = search.advance(state, x[:, t:t + 1], torch.tensor([1]))
    assert search.nbest(state)[0][0].tokens == [1, 4, 3]


@pytest.mark.parametrize("phrases, boost, message", [([], 1.0, "no phrases"), ([[]], 1.0, "empty"), ([[9]], 1.0, "outside"),
                                                     ([[1]], [1.0, 2.0], "2 boosts")])
def test_bad_phrases(phrases, boost, message):
    with pytest.raises(ValueError, match=message):
        ContextGraph(phrases, 8, boost)
