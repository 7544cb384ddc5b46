"""Graphs as text against the models they stand for; with k2 its searches against ours on the same posteriors."""

import itertools
import math

import pytest
import torch

from voxkit.optional import MissingPackage, available
from voxkit.search.k2_graphs import (
    BACKOFF,
    WordTable,
    build_graph,
    ctc_graph,
    grammar_text,
    lattice,
    lexicon_text,
    load_graph,
    n_best,
    one_best,
    rescore_lattice,
)
from voxkit.search.ngram import train
from voxkit.search.prefix_beam import ctc_prefix_beam

needs_k2 = pytest.mark.skipif(not available("k2"), reason="k2 is not installed (tools/install_k2.sh)")
SENTENCES = [s.split() for s in ("HEAL ME", "HEAL THE WARD", "WARD ME", "PUSH THE WARD", "PUSH", "HEAL")] * 3
SPELLINGS = {"HEAL": [1], "ME": [2, 3], "THE": [2, 4], "WARD": [5, 3], "PUSH": [5], "HEEL": [1], "HE": [2]}


def arcs(text):
    lines = [line.split() for line in text.splitlines()]
    return [(int(a), int(b), int(w), *map(int, rest[:-1]), float(rest[-1])) for a, b, w, *rest in lines[:-1]], int(lines[-1][0])


def best_weight(text, labels, backoff):
    """Best weight of an acceptor for a label sequence; back-off arcs are free to take."""
    found, final = arcs(text)
    layer = {0: 0.0}
    for label in [*labels, -1]:
        queue = list(layer)
        while queue:
            state = queue.pop()
            for a, b, w, s in found:
                if a == state and w == backoff and layer[state] + s > layer.get(b, -math.inf):
                    layer[b] = layer[state] + s
                    queue.append(b)
        after = {}
        for a, b, w, s in found:
            if w == label and a in layer:
                after[b] = max(after.get(b, -math.inf), layer[a] + s)
        layer = after
    return layer.get(final, -math.inf)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_grammar_weighs_sentences_as_the_model(order):
    model = train(SENTENCES, order)
    table = WordTable.of(w for s in SENTENCES for w in s)
    text, ids = grammar_text(model, table), table.ids()
    for words in (["HEAL", "ME"], ["ME", "PUSH", "PUSH"], ["WARD"], []):
        expected = model.sentence(words) * math.log(10)
        # a back-off may be taken where the n-gram is known too, so the best path is at least the model's
        assert best_weight(text, [ids[w] for w in words], ids[BACKOFF]) >= expected - 1e-4
        assert best_weight(text, [ids[w] for w in words], ids[BACKOFF]) == pytest.approx(expected, abs=0.7)


def test_the_lexicon_spells_words_and_tells_homophones_apart():
    table = WordTable.of(SPELLINGS)
    text, extra = lexicon_text(SPELLINGS, table, 6)
    found, final = arcs(text)
    spelled = {}
    for a, b, token, word, _ in found:
        if a == 0 and word > 0:
            line, at = [token], b
            while at not in (0, final):
                at, token = next((y, t) for x, y, t, _, _ in found if x == at)
                line.append(token)
            spelled[table.words[word]] = line
    assert spelled.pop(BACKOFF) == [6]
    assert {w: [t for t in s if t < 6] for w, s in spelled.items()} == {w: list(s) for w, s in SPELLINGS.items()}
    sequences = [tuple(s) for s in spelled.values()]
    assert len(set(sequences)) == len(sequences) and extra == 3
    for a, b in itertools.permutations(sequences, 2):
        assert a != b[: len(a)], "no word begins another one"
    with pytest.raises(ValueError, match="no tokens"):
        lexicon_text({"X": []}, WordTable.of(["X"]), 6)


@pytest.mark.skipif(available("k2"), reason="k2 is installed")
def test_without_k2_it_says_what_to_install():
    with pytest.raises(MissingPackage, match="install_k2.sh"):
        ctc_graph(6)


@needs_k2
def test_h_agrees_with_our_search():
    x = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0)).mul(3).log_softmax(-1)
    lengths = torch.tensor([15, 20, 8])
    found, order = lattice(ctc_graph(6), x, lengths)
    best = one_best(found, order)
    lists = n_best(found, order, 200)
    for b in range(3):
        path = x[b, : lengths[b]].argmax(-1).tolist()
        assert best[b].tokens == [t for t, _ in itertools.groupby(path) if t], "1-best of H is the best path"
        assert lists[b][0].tokens == best[b].tokens
        ours = {tuple(h.tokens) for h in ctc_prefix_beam(x[b:b + 1], lengths[b:b + 1], 50, nbest=50, blank_skip=None, min_log_prob=None)[0]}
        assert tuple(best[b].tokens) in ours


@needs_k2
def test_hlg_and_rescoring(tmp_path):
    build_graph(SPELLINGS, 6, tmp_path, train(SENTENCES, 2), train(SENTENCES, 3))
    graph = load_graph(tmp_path)
    x = torch.full((1, 8, 6), -6.0)
    for t, token in enumerate((1, 0, 2, 0, 3, 0, 0, 0)):
        x[0, t, token] = 3.0
    found, order = lattice(graph.fsa, x.log_softmax(-1), torch.tensor([8]))
    assert [graph.words[i] for i in one_best(found, order)[0].tokens] == ["HEAL", "ME"]
    assert [graph.words[i] for i in one_best(rescore_lattice(found, graph.large), order)[0].tokens] == ["HEAL", "ME"]
