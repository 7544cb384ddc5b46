"""The searches over graphs of k2: the CTC topology alone, or with lexicon and n-gram. Optional, as k2 is."""

from __future__ import annotations

import math

from voxkit.optional import require
from voxkit.search import k2_graphs
from voxkit.search.heads import Heard
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import Vocabulary


def ctc(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """The best path of the CTC topology."""
    graph = k2_graphs.ctc_graph(heard.ctc.shape[2], heard.ctc.device)
    return [[h] for h in k2_graphs.one_best(*k2_graphs.lattice(graph, heard.ctc, heard.lengths))]


def hlg(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """The best path over a graph of words."""
    return _spelled([[h] for h in k2_graphs.one_best(*_lattice(heard, options))], options, vocabulary)


def nbest(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """Many paths of the lattice, those that say the same counted as one."""
    return _n_best(heard, options, vocabulary, None)


def nbest_rescoring(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """The same, ranked by the graph's larger language model."""
    return _n_best(heard, options, vocabulary, options.graph.large)


def rescoring(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """The best path of the lattice with the larger model's scores in it."""
    lattice, order = _lattice(heard, options)
    rows = [[h] for h in k2_graphs.one_best(k2_graphs.rescore_lattice(lattice, options.graph.large), order)]
    return _spelled(rows, options, vocabulary)


def check_package(options: SearchOptions, vocabulary: Vocabulary) -> None:
    """
    Raises:
        MissingPackage: k2 cannot be imported.
        ValueError: the vocabulary's blank is not 0, as k2's topology has it.
    """
    require("k2", why=f"method {options.method}")
    if vocabulary.blank not in (0, None):
        raise ValueError(f"method {options.method}: k2 has the blank as id 0, and it is {vocabulary.blank} here; use another method")


def check_graph(options: SearchOptions, vocabulary: Vocabulary) -> None:
    """
    Raises:
        MissingPackage: as `check_package`. ValueError: no graph is given, or one over other tokens.
    """
    check_package(options, vocabulary)
    if options.graph is None:
        raise ValueError(f"method {options.method} needs --graph; `voxkit lm graph` makes one")
    if options.graph.vocab_size != vocabulary.size:
        raise ValueError(f"the graph is over {options.graph.vocab_size} tokens, the model has {vocabulary.size}: make it with the model's "
                         "tokenizer (`voxkit lm graph --tokenizer`)")


def check_large_graph(options: SearchOptions, vocabulary: Vocabulary) -> None:
    """
    Raises:
        MissingPackage, ValueError: as `check_graph`; or the graph has no larger model.
    """
    check_graph(options, vocabulary)
    if options.graph.large is None:
        raise ValueError(f"{options.method} needs a graph with a larger model: `voxkit lm graph --rescore-lm`")


def _lattice(heard: Heard, options: SearchOptions):
    return k2_graphs.lattice(options.graph.fsa, heard.ctc, heard.lengths)


def _n_best(heard: Heard, options: SearchOptions, vocabulary: Vocabulary, large: object) -> list[list[CtcHypothesis]]:
    rows = k2_graphs.n_best(*_lattice(heard, options), max(100, options.beam), large)
    return _spelled([row or [CtcHypothesis([], -math.inf)] for row in rows], options, vocabulary)


def _spelled(rows: list[list[CtcHypothesis]], options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """Words of the graph → their tokens."""
    words = options.graph.words
    for h in (h for row in rows for h in row):
        h.tokens = [token for word in h.tokens for token in vocabulary.encode(words[word])]
    return rows
