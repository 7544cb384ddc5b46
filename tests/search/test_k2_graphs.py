"""Graphs as text against the models they stand for; with k2 its searches against ours on the same posteriors."""

import itertools
import math

import pytest
import torch

from voxkit.optional import MissingPackage, available
from voxkit.search.greedy import ctc_greedy
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
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.search.scorer import combine

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


def test_loops_for_rescoring_are_at_every_state_and_weigh_nothing():
    model, table = train(SENTENCES, 2), WordTable.of(SPELLINGS)
    (plain, final), (looped, same) = (arcs(grammar_text(model, table, loops=n)) for n in (None, table.silent))
    loops = set(looped) - set(plain)
    assert same == final and loops == {(state, state, table.silent, 0.0) for state in range(final)}


def posteriors(frames, scale, seed, vocab=6):
    return torch.randn(1, frames, vocab, generator=torch.Generator().manual_seed(seed)).mul(scale).log_softmax(-1)


def decode(fsa, x):
    return lattice(fsa, x, torch.tensor([x.shape[1]]), search_beam=1e3, output_beam=1e3)


def best_paths(x):
    """Score of the best path of every token sequence there is: {tokens: score}, by trying every path."""
    best = {}
    scores = x[0].tolist()
    for path in itertools.product(range(x.shape[2]), repeat=x.shape[1]):
        tokens = tuple(t for t, _ in itertools.groupby(path) if t)
        best[tokens] = max(best.get(tokens, -math.inf), sum(row[t] for row, t in zip(scores, path)))
    return best


def readings(tokens):
    """Every sequence of words that spells tokens."""
    if not tokens:
        return [()]
    return [(word, *rest) for word, spelling in SPELLINGS.items() if tuple(spelling) == tokens[:len(spelling)]
            for rest in readings(tokens[len(spelling):])]


def best_words(x, grammar, table):
    """Every sequence of words with its score: best path, and best weight in a grammar (or None); known words alone."""
    ids = table.ids()
    found = {}
    for tokens, score in best_paths(x).items():
        for words in readings(tokens):
            weight = best_weight(grammar, [ids[w] for w in words], ids[BACKOFF]) if grammar else 0.0
            found[words] = max(found.get(words, -math.inf), score + weight)
    return found


def words_of(graph, hypothesis):
    return tuple(graph.words[i] for i in hypothesis.tokens)


@needs_k2
def test_h_agrees_with_our_searches():
    x = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0)).mul(3).log_softmax(-1)
    lengths = torch.tensor([15, 20, 8])
    found, order = lattice(ctc_graph(6), x, lengths)
    best = one_best(found, order)
    lists = n_best(found, order, 200)
    for b in range(3):
        row = x[b, : lengths[b]]
        assert best[b].tokens == [t for t, _ in itertools.groupby(row.argmax(-1).tolist()) if t], "1-best of H is the best path"
        assert best[b].tokens == ctc_greedy(x[b:b + 1], lengths[b:b + 1])[0].tokens
        assert best[b].score == pytest.approx(row.amax(-1).sum().item(), abs=1e-3)
        assert lists[b][0].tokens == best[b].tokens and lists[b][0].score == pytest.approx(best[b].score, abs=1e-3)
        assert len(lists[b]) > 1 and lists[b] == sorted(lists[b], key=lambda h: -h.score)
        wide = {tuple(h.tokens): h.score for h in ctc_prefix_beam(
            x[b:b + 1], lengths[b:b + 1], 200, nbest=200, blank_skip=None, min_log_prob=None, prune=None)[0]}
        for h in lists[b][:5]:  # the beam sums over paths, k2 takes the best one
            assert h.score <= wide[tuple(h.tokens)] + 1e-3


@needs_k2
def test_h_agrees_with_the_prefix_beam_where_posteriors_are_sharp():
    x = posteriors(40, 40, 1)
    lengths = torch.tensor([40])
    ours = ctc_prefix_beam(x, lengths, 50, blank_skip=None, min_log_prob=None)[0][0]
    theirs = one_best(*decode(ctc_graph(6), x))[0]
    assert theirs.tokens == ours.tokens and theirs.score == pytest.approx(ours.score, abs=0.5)


@needs_k2
def test_lists_hold_the_score_of_the_best_path_of_each_sequence():
    x = posteriors(4, 1, 2)
    best = best_paths(x)
    (row,) = n_best(*decode(ctc_graph(6), x), 5000)
    assert len(row) > 30
    for h in row:
        assert h.score == pytest.approx(best[tuple(h.tokens)], abs=1e-3)


@needs_k2
@pytest.mark.parametrize("seed", range(4))
def test_hl_finds_the_best_words_of_the_lexicon(seed, tmp_path):
    build_graph(SPELLINGS, 6, tmp_path)
    graph = load_graph(tmp_path)
    assert graph.large is None and graph.vocab_size == 6
    x = posteriors(5, 2, seed)
    expected = best_words(x, None, WordTable(graph.words))
    best = one_best(*decode(graph.fsa, x))[0]
    assert set(words_of(graph, best)) <= set(SPELLINGS)
    assert best.score == pytest.approx(max(expected.values()), abs=1e-3)
    assert expected[words_of(graph, best)] == pytest.approx(best.score, abs=1e-3), "homophones may stand for one another, nothing else"


@needs_k2
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_hlg_is_the_best_of_all_word_sequences(order, seed, tmp_path):
    model = train(SENTENCES, order)
    build_graph(SPELLINGS, 6, tmp_path, model)
    graph = load_graph(tmp_path)
    table = WordTable(graph.words)
    x = posteriors(5, 2, seed)
    expected = best_words(x, grammar_text(model, table), table)
    best = one_best(*decode(graph.fsa, x))[0]
    assert best.score == pytest.approx(max(expected.values()), abs=1e-3)
    assert words_of(graph, best) == max(expected, key=expected.get)


@needs_k2
@pytest.mark.parametrize("seed", range(4))
def test_hlg_agrees_with_our_beam_and_the_same_n_gram(seed, tmp_path):
    """One token a word, so that both fuse the same model: the same words, the score at most ours (a sum over paths), little less."""
    words = ["<unk>", "HEAL", "ME", "THE", "WARD", "PUSH"]
    model = train(SENTENCES, 2)
    build_graph({w: [i] for i, w in enumerate(words) if i}, 6, tmp_path, model)
    graph = load_graph(tmp_path)
    x = posteriors(25, 40, seed)
    scorer = combine(NgramScorer(model, ["<blank>", *words[1:]]), 1.0)
    ours = ctc_prefix_beam(x, torch.tensor([25]), 100, scorer=scorer, tokens_per_frame=5, blank_skip=None, min_log_prob=None, prune=None)
    theirs = one_best(*decode(graph.fsa, x))[0]
    assert list(words_of(graph, theirs)) == [words[t] for t in ours[0][0].tokens]
    assert theirs.score == pytest.approx(ours[0][0].score, abs=0.2)


@needs_k2
@pytest.mark.parametrize("seed", range(3))
def test_rescoring_is_exact_and_leaves_the_lattice_alone(seed, tmp_path):
    """The whole lattice, lists of it, and every sequence tried: the same best. Five frames force words to follow without a pause."""
    large = train(SENTENCES, 3)
    build_graph(SPELLINGS, 6, tmp_path, train(SENTENCES, 1), large)
    graph = load_graph(tmp_path)
    table = WordTable(graph.words)
    x = posteriors(5, 2, seed)
    expected = best_words(x, grammar_text(large, table), table)
    found, order = decode(graph.fsa, x)
    first = one_best(found, order)[0]
    whole = one_best(rescore_lattice(found, graph.large), order)[0]
    listed = n_best(found, order, 20000, graph.large)[0]
    assert whole.score == pytest.approx(max(expected.values()), abs=1e-3)
    assert words_of(graph, whole) == max(expected, key=expected.get)
    assert listed[0].score == pytest.approx(whole.score, abs=1e-3) and listed[0].tokens == whole.tokens
    for h in listed:
        assert h.score == pytest.approx(expected[words_of(graph, h)], abs=1e-3)
    again = one_best(found, order)[0]
    assert (again.tokens, again.score) == (first.tokens, first.score)


@needs_k2
def test_a_batch_gives_what_its_items_give(tmp_path):
    build_graph(SPELLINGS, 6, tmp_path, train(SENTENCES, 2), train(SENTENCES, 3))
    graph = load_graph(tmp_path)
    x = torch.randn(3, 12, 6, generator=torch.Generator().manual_seed(5)).mul(4).log_softmax(-1)
    lengths = torch.tensor([7, 12, 9])
    together, order = lattice(graph.fsa, x, lengths)
    searches = (one_best, lambda f, o: [row[0] for row in n_best(f, o)], lambda f, o: one_best(rescore_lattice(f, graph.large), o),
                lambda f, o: [row[0] for row in n_best(f, o, 100, graph.large)])
    for search in searches:
        for b, found in enumerate(search(together, order)):
            alone = search(*lattice(graph.fsa, x[b:b + 1, : lengths[b]], lengths[b:b + 1]))[0]
            assert found.tokens == alone.tokens and found.score == pytest.approx(alone.score, abs=1e-3)


@needs_k2
def test_the_rescoring_model_must_know_the_words(tmp_path):
    with pytest.raises(ValueError, match="lacks 1 words that the graph can find, e.g. 'PUSH'"):
        build_graph(SPELLINGS, 6, tmp_path, train(SENTENCES, 2), train([s for s in SENTENCES if "PUSH" not in s], 3))


@needs_k2
def test_no_graph_is_named(tmp_path):
    with pytest.raises(ValueError, match="no decoding graph there"):
        load_graph(tmp_path)
