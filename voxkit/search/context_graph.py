"""Contextual biasing: a phrase list as an Aho-Corasick automaton over tokens, as a `Scorer` for every search.

While a hypothesis spells a phrase it is lent the phrase's boost, token by token; it keeps the loan if it ends the phrase at a
word's end, and pays it back if it leaves the phrase before (Zhao et al. 2019; icefall's context graph). What a whole
hypothesis gets is therefore the sum of the boosts of its phrases, and "heal" lends nothing for good to "health".
The state is the automaton's node, so that it streams: nothing is looked at twice.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from voxkit.text.vocabulary import Vocabulary


class ContextGraph:
    """`Scorer` of phrases.

    Args:
        phrases: token ids of each phrase; several spellings of one phrase are several entries.
        vocab_size: V.
        boost: per token, in nats; a number for all phrases or one per phrase. A phrase earns boost · its tokens; of phrases that begin
            alike the highest boost is lent, and each keeps its own; one that begins with another earns what that one leaves to earn.
        word_starts: [V] bool, which tokens begin a word (`Vocabulary.word_starts`): phrases then count only as whole
            words. None: they count anywhere.

    Raises:
        ValueError: no phrases, an empty one, tokens outside of the vocabulary, a boost too few or too many.
    """

    def __init__(self, phrases: Sequence[Sequence[int]], vocab_size: int, boost: float | Sequence[float] = 1.5,
                 word_starts: Tensor | Sequence[bool] | None = None) -> None:
        boosts = [float(boost)] * len(phrases) if isinstance(boost, (int, float)) else [float(b) for b in boost]
        _check(phrases, boosts, vocab_size)
        starts = torch.ones(vocab_size, dtype=torch.bool) if word_starts is None else torch.as_tensor(word_starts, dtype=torch.bool)
        if starts.shape != (vocab_size,):
            raise ValueError(f"word_starts has shape {tuple(starts.shape)}: one truth value for each of the {vocab_size} tokens is needed")
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
        self.vocab_size = vocab_size
        self.keys = torch.tensor([k for k, _ in entries] + [torch.iinfo(torch.long).max])
        self.targets = torch.tensor([t for _, t in entries] + [0])
        self.root = torch.zeros(vocab_size, dtype=torch.long)
        for token, target in children[0].items():
            self.root[token] = target
        self.lent, self.earned, self.word_starts = torch.tensor(lent), torch.tensor(earned), starts
        gains = [lent[target] - lent[key // vocab_size] + max(earned[key // vocab_size], 0.0) for key, target in entries]
        outside = max(lent[target] for target in children[0].values())
        ended = [max(e, 0.0) - value for e, value in zip(earned, lent)]
        self.most = max([0.0, *gains, *ended, *(end + outside for end in ended)])

    @classmethod
    def from_texts(cls, phrases: Mapping[str, float] | Iterable[str], vocabulary: Vocabulary, boost: float = 1.5) -> ContextGraph:
        """Phrases as text, each with `boost`; a mapping gives each phrase its own.

        Raises:
            ValueError: as the class; or a phrase that the vocabulary cannot spell.
        """
        boosts = dict(phrases) if isinstance(phrases, Mapping) else dict.fromkeys(phrases, boost)
        spelled = {phrase: vocabulary.encode(phrase) for phrase in boosts}
        strange = [phrase for phrase, tokens in spelled.items() if vocabulary.unk in tokens]
        if strange:
            raise ValueError(f"{len(strange)} phrases hold characters that the tokenizer lacks, e.g. {strange[0]!r}: write them as the "
                             "transcripts are written (upper or lower case, no punctuation)")
        starts = vocabulary.word_starts if any(vocabulary.word_starts) else None
        return cls(list(spelled.values()), vocabulary.size, list(boosts.values()), starts)

    def to(self, device: torch.device | str) -> ContextGraph:
        """Move the tables."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def init(self, size: int, device: torch.device) -> Tensor:
        """States [size]: outside of every phrase."""
        if self.keys.device != torch.device(device):
            self.to(device)
        return torch.zeros(size, dtype=torch.long, device=device)

    def score(self, state: Tensor, tokens: Tensor) -> Tensor:
        """tokens [N, K] → what each lends, earns and pays back [N, K]."""
        node = state[:, None].expand_as(tokens)
        tokens = tokens.clamp(min=0)
        change = self.lent[self._follow(node, tokens)] - self.lent[node]
        return change + torch.where(self.word_starts[tokens], self.earned[node], 0.0)

    def advance(self, state: Tensor, tokens: Tensor) -> Tensor:
        """States after tokens [N]; -1 leaves one as it is."""
        return torch.where(tokens >= 0, self._follow(state, tokens.clamp(min=0)), state)

    def select(self, state: Tensor, index: Tensor) -> Tensor:
        """States of hypotheses index."""
        return state[index]

    def final(self, state: Tensor) -> Tensor:
        """A phrase that ends here is earned, a half one is paid back: [N]."""
        return self.earned[state] - self.lent[state]

    def _follow(self, node: Tensor, tokens: Tensor) -> Tensor:
        key = node * self.vocab_size + tokens
        place = torch.searchsorted(self.keys, key)
        return torch.where(self.keys[place] == key, self.targets[place], self.root[tokens])


def _check(phrases: Sequence[Sequence[int]], boosts: Sequence[float], vocab_size: int) -> None:
    if not phrases:
        raise ValueError("no phrases: pass None to a search instead of an empty context graph")
    if len(boosts) != len(phrases):
        raise ValueError(f"{len(boosts)} boosts for {len(phrases)} phrases: one number, or one for each")
    for i, phrase in enumerate(phrases):
        if not len(phrase):
            raise ValueError(f"phrase {i} is empty: the tokenizer made no tokens of it")
        if min(phrase) < 0 or max(phrase) >= vocab_size:
            raise ValueError(f"phrase {i} holds tokens outside of 0..{vocab_size - 1}: {list(phrase)}; is it another tokenizer's?")
