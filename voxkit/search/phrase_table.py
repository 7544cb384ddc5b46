"""Phrases to favor (hotwords, contextual biasing) as an Aho-Corasick automaton over tokens, without tensors: what every beam that favors
them looks at, here and in the runtime. voxkit/search/context_graph.py says how boosts are lent, earned and paid back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from voxkit.text.vocabulary import Vocabulary


class PhraseTable:
    """The automaton.

    Args:
        phrases, vocab_size, boost, word_starts: as of `ContextGraph`.

    Attributes:
        keys, targets: transitions node · V + token → node out of all nodes but the root, ascending, one behind the last; root: [V] its own.
        lent, earned: of each node; most: what one token, or the end, can add at the most.

    Raises:
        ValueError: as `ContextGraph`.
    """

    def __init__(self, phrases: Sequence[Sequence[int]], vocab_size: int, boost: float | Sequence[float] = 1.5,
                 word_starts: Sequence[bool] | None = None) -> None:
        boosts = [float(boost)] * len(phrases) if isinstance(boost, (int, float)) else [float(b) for b in boost]
        _check(phrases, boosts, vocab_size)
        starts = np.ones(vocab_size, dtype=bool) if word_starts is None else np.asarray(word_starts, dtype=bool)
        if starts.shape != (vocab_size,):
            raise ValueError(f"word_starts has shape {starts.shape}: one truth value for each of the {vocab_size} tokens is needed")
        children: list[dict[int, int]] = [{}]
        arc: list[float] = [0.0]  # boost of the token that leads to a node
        ends: list[bool] = [False]
        own: list[float] = [0.0]  # boost · tokens of the phrase that ends at a node
        for phrase, value in zip(phrases, boosts):
            node = 0
            for token in phrase:
                if token not in children[node]:
                    children[node][token] = len(children)
                    children.append({})
                    arc.append(value)
                    ends.append(False)
                    own.append(-math.inf)
                node = children[node][token]
                arc[node] = max(arc[node], value)
            ends[node], own[node] = True, max(own[node], value * len(phrase))
        whole, settled = [0.0] * len(arc), [0.0] * len(arc)  # lent since the root; of it, earned by phrases that are over
        lent, earned, fail, closure = [0.0] * len(arc), [0.0] * len(arc), [0] * len(arc), [dict(children[0])] * len(arc)
        queue = deque([0])
        while queue:
            node = queue.popleft()
            for token, child in children[node].items():
                # a phrase that ended at `node` has earned its boost if this token begins a word: no second time
                settled[child] = own[node] if ends[node] and starts[token] else settled[node]
                whole[child] = whole[node] + arc[child]
                lent[child] = whole[child] - settled[child]
                fail[child] = closure[fail[node]].get(token, 0) if node else 0
                if ends[child] and settled[child]:
                    own[child] = max(own[child], settled[child])
                earned[child] = own[child] - settled[child] if ends[child] else earned[fail[child]]
                queue.append(child)
            closure[node] = {**closure[fail[node]], **children[node]} if node else children[0]
            for child in children[node].values():
                closure[child] = {}
        # transitions out of every node: root's as a dense row, the others' as sorted keys node · V + token
        entries = sorted((node * vocab_size + token, target) for node in range(1, len(arc)) for token, target in closure[node].items()
                         if target != children[0].get(token))
        self.vocab_size, self.word_starts = vocab_size, starts
        self.keys = np.array([k for k, _ in entries] + [np.iinfo(np.int64).max])
        self.targets = np.array([t for _, t in entries] + [0])
        self.root = np.zeros(vocab_size, dtype=np.int64)
        for token, target in children[0].items():
            self.root[token] = target
        self.lent, self.earned = np.array(lent, dtype=np.float32), np.array(earned, dtype=np.float32)
        gains = [lent[target] - lent[key // vocab_size] + max(earned[key // vocab_size], 0.0) for key, target in entries]
        outside = max(lent[target] for target in children[0].values())
        ended = [max(e, 0.0) - value for e, value in zip(earned, lent)]
        self.most = max([0.0, *gains, *ended, *(end + outside for end in ended)])

    def step(self, node: int, token: int) -> tuple[float, int]:
        """What a token lends, earns and pays back after a node, and the node after it, of one hypothesis."""
        arcs, root, lent, earned, starts = self._lists
        after = arcs.get(node * self.vocab_size + token, root[token])
        return lent[after] - lent[node] + (earned[node] if starts[token] else 0.0), after

    def end(self, node: int) -> float:
        """A phrase that ends here is earned, a half one is paid back."""
        return float(self.earned[node] - self.lent[node])

    @cached_property
    def _lists(self) -> tuple[dict[int, int], list[int], list[float], list[float], list[bool]]:
        """For single steps: a number out of an array costs ten times as much as one out of a list."""
        arcs = dict(zip(self.keys[:-1].tolist(), self.targets.tolist()))
        return arcs, self.root.tolist(), self.lent.tolist(), self.earned.tolist(), self.word_starts.tolist()


def spell(phrases: Mapping[str, float] | Iterable[str], vocabulary: Vocabulary,
          boost: float) -> tuple[list[list[int]], int, list[float], Sequence[bool] | None]:
    """Phrases as text, each with `boost`, or a mapping with each one's own → the arguments of PhraseTable.

    Raises:
        ValueError: one that the vocabulary cannot spell, or whose boost is no finite number.
    """
    boosts = dict(phrases) if isinstance(phrases, Mapping) else dict.fromkeys(phrases, boost)
    spelled = {phrase: vocabulary.encode(phrase) for phrase in boosts}
    strange = [phrase for phrase, tokens in spelled.items() if vocabulary.unk in tokens]
    for phrase, value in boosts.items():
        if not math.isfinite(value):
            raise ValueError(f"phrase {phrase!r}: its boost is {value}, and has to be a finite number of nats per token")
    if strange:
        raise ValueError(f"{len(strange)} phrases hold characters that the tokenizer lacks, e.g. {strange[0]!r}: write them as the "
                         "transcripts are written (upper or lower case, no punctuation)")
    starts = vocabulary.word_starts if any(vocabulary.word_starts) else None
    return list(spelled.values()), vocabulary.size, list(boosts.values()), starts


def _check(phrases: Sequence[Sequence[int]], boosts: Sequence[float], vocab_size: int) -> None:
    if not phrases:
        raise ValueError("no phrases: pass None to a search instead of an empty context graph")
    if len(boosts) != len(phrases):
        raise ValueError(f"{len(boosts)} boosts for {len(phrases)} phrases: one number, or one for each")
    for i, phrase in enumerate(phrases):
        if not math.isfinite(boosts[i]):
            raise ValueError(f"phrase {i}: its boost is {boosts[i]}, and has to be a finite number of nats per token")
        if not len(phrase):
            raise ValueError(f"phrase {i} is empty: the tokenizer made no tokens of it")
        if min(phrase) < 0 or max(phrase) >= vocab_size:
            raise ValueError(f"phrase {i} holds tokens outside of 0..{vocab_size - 1}: {list(phrase)}; is it another tokenizer's?")
