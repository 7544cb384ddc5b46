"""An n-gram model as arrays, without tensors: what every beam that reads one looks at, here and in the runtime.

A state is a node (the longest context the model knows); an arc (node, token) holds a log-probability and the next node.
Arcs lie in one sorted array of keys node · V + token; a miss adds the back-off weight and looks again one context shorter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from voxkit.search.ngram import BOS, EOS, UNK, NgramModel

_LN10 = math.log(10)
_IMPOSSIBLE = -20.0  # nats; for <unk> in models without it


class NgramTable:
    """The arcs of a model over a vocabulary's tokens; natural logarithms.

    Args:
        model: over the vocabulary's pieces.
        pieces: [V] the word of each token id.

    Attributes:
        vocab: V + 1, the last id is </s>; order: of the model; start: node after <s>.
        keys, scores, next: of the arcs, ascending, one behind the last.
        first, first_next: [V + 1] the arcs out of the empty context.
        backoff, shorter: of each node, its back-off weight and the node of its context without the first word.

    Raises:
        ValueError: the model is over other tokens.
    """

    def __init__(self, model: NgramModel, pieces: Sequence[str]) -> None:
        check_vocabulary(model, pieces)
        self.vocab, self.order = len(pieces) + 1, model.order
        ids = {piece: i for i, piece in enumerate(pieces) if piece not in (BOS, EOS)}
        ids[EOS] = len(pieces)
        known = model.ngrams[0]
        # nodes: the contexts, as n-grams of all orders but the highest; node 0 is the empty one
        nodes: dict[tuple[str, ...], int] = {(): 0}
        for grams in model.ngrams[:-1]:
            for gram in grams:
                nodes.setdefault(gram, len(nodes))
        unknown = known.get((UNK,), (_IMPOSSIBLE / _LN10, 0.0))[0] * _LN10
        self.first = np.full(self.vocab, unknown, dtype=np.float32)
        self.first_next = np.full(self.vocab, nodes.get((UNK,), 0), dtype=np.int64)
        keys, scores, following = [], [], []
        for n, grams in enumerate(model.ngrams):
            for gram, (p, _) in grams.items():
                token, context = ids.get(gram[-1]), gram[:-1]
                if token is None:
                    continue
                target = _longest(gram if n + 1 < model.order else gram[1:], nodes)
                if not context:
                    self.first[token], self.first_next[token] = p * _LN10, target
                elif context in nodes:
                    keys.append(nodes[context] * self.vocab + token)
                    scores.append(p * _LN10)
                    following.append(target)
        order = np.asarray(keys, dtype=np.int64).argsort()
        self.keys = np.append(np.asarray(keys, dtype=np.int64)[order], np.iinfo(np.int64).max)
        self.scores = np.append(np.asarray(scores, dtype=np.float32)[order], np.float32(0))
        self.next = np.append(np.asarray(following, dtype=np.int64)[order], 0)
        self.backoff = np.zeros(len(nodes), dtype=np.float32)
        self.shorter = np.zeros(len(nodes), dtype=np.int64)
        for gram, node in nodes.items():
            if gram:
                self.backoff[node] = model.ngrams[len(gram) - 1].get(gram, (0.0, 0.0))[1] * _LN10
                self.shorter[node] = _longest(gram[1:], nodes)
        self.start = nodes.get((BOS,), 0)

    def look_up(self, node: int, token: int) -> tuple[float, int]:
        """log P(token | node) and the node after it, of one hypothesis."""
        arcs, scores, following, backoff, shorter = self._lists
        total = 0.0
        while node:
            place = arcs.get(node * self.vocab + token)
            if place is not None:
                return total + scores[place], following[place]
            total += backoff[node]
            node = shorter[node]
        return total + float(self.first[token]), int(self.first_next[token])

    @cached_property
    def _lists(self) -> tuple[dict[int, int], list[float], list[int], list[float], list[int]]:
        """For single look-ups: a number out of an array costs ten times as much as one out of a list."""
        arcs = {key: i for i, key in enumerate(self.keys[:-1].tolist())}
        return arcs, self.scores.tolist(), self.next.tolist(), self.backoff.tolist(), self.shorter.tolist()


def check_vocabulary(model: NgramModel, pieces: Sequence[str], name: str = "the language model") -> None:
    """A model whose words are not (nearly all) the tokenizer's pieces is over other tokens: ValueError."""
    words = [w for w in model.vocabulary if w not in (BOS, EOS, UNK)]
    known = set(pieces)
    refuse_other_tokens([w for w in words if w not in known], words, name)


def check_complete(model: NgramModel, pieces: Sequence[str], name: str) -> None:
    """A model that lacks more than a few of a tokenizer's pieces (without blank, <s>, </s> and <unk>) is of another one, maybe a smaller
    one whose pieces this one has too: ValueError."""
    known = set(model.vocabulary)
    refuse_other_tokens([p for p in pieces if p not in known], list(pieces), name)


def refuse_other_tokens(missing: list[str], words: list[str], name: str) -> None:
    if words and len(missing) > 0.1 * len(words):
        raise ValueError(f"{name} is over other tokens than the tokenizer: {len(missing)} of {len(words)} are not shared, e.g. "
                         f"{', '.join(map(repr, missing[:3]))}; train one with `voxkit lm train --tokenizer` on this tokenizer")


def _longest(gram: tuple[str, ...], nodes: dict[tuple[str, ...], int]) -> int:
    while gram not in nodes:
        gram = gram[1:]
    return nodes[gram]
