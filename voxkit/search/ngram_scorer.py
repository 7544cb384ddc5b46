"""An n-gram model in a beam: back-off look-ups for all hypotheses at once, in sorted arrays.

A state is a node (the longest context the model knows); an arc (node, token) holds a log-probability and the next node.
Arcs lie in one sorted array of keys node · V + token, found by binary search; a miss adds the back-off weight and
looks again one context shorter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from voxkit.search.ngram import BOS, EOS, UNK, NgramModel

_LN10 = math.log(10)
_IMPOSSIBLE = -20.0  # nats; for <unk> in models without it


class NgramScorer:
    """`Scorer` of an NgramModel over the tokens of a tokenizer.

    Args:
        model: over the tokenizer's pieces.
        pieces: [V] the word of each token id.
        end: whether the end of the utterance pays for </s>.

    Raises:
        ValueError: the model is over other tokens.
    """

    def __init__(self, model: NgramModel, pieces: Sequence[str], *, end: bool = True) -> None:
        check_vocabulary(model, pieces)
        self.vocab, self.order, self.end, self.most = len(pieces) + 1, model.order, end, 0.0  # the last id is </s>
        ids = {piece: i for i, piece in enumerate(pieces) if piece not in (BOS, EOS)}
        ids[EOS] = len(pieces)
        known = model.ngrams[0]
        # nodes: the contexts, as n-grams of all orders but the highest; node 0 is the empty one
        nodes: dict[tuple[str, ...], int] = {(): 0}
        for grams in model.ngrams[:-1]:
            for gram in grams:
                nodes.setdefault(gram, len(nodes))
        unknown = known.get((UNK,), (_IMPOSSIBLE / _LN10, 0.0))[0] * _LN10
        first = torch.full((self.vocab,), unknown)
        first_next = torch.full((self.vocab,), nodes.get((UNK,), 0), dtype=torch.long)
        keys, scores, following = [], [], []
        for n, grams in enumerate(model.ngrams):
            for gram, (p, _) in grams.items():
                token, context = ids.get(gram[-1]), gram[:-1]
                if token is None:
                    continue
                target = _longest(gram if n + 1 < model.order else gram[1:], nodes)
                if not context:
                    first[token], first_next[token] = p * _LN10, target
                elif context in nodes:
                    keys.append(nodes[context] * self.vocab + token)
                    scores.append(p * _LN10)
                    following.append(target)
        order = torch.tensor(keys, dtype=torch.long).argsort()
        self.keys = torch.cat([torch.tensor(keys, dtype=torch.long)[order], torch.tensor([torch.iinfo(torch.long).max])])
        self.scores = torch.cat([torch.tensor(scores)[order], torch.zeros(1)])
        self.next = torch.cat([torch.tensor(following, dtype=torch.long)[order], torch.zeros(1, dtype=torch.long)])
        self.first, self.first_next = first, first_next
        self.backoff = torch.zeros(len(nodes))
        self.shorter = torch.zeros(len(nodes), dtype=torch.long)
        for gram, node in nodes.items():
            if gram:
                self.backoff[node] = model.ngrams[len(gram) - 1].get(gram, (0.0, 0.0))[1] * _LN10
                self.shorter[node] = _longest(gram[1:], nodes)
        self.start = nodes.get((BOS,), 0)

    @classmethod
    def read(cls, path: str | Path, pieces: Sequence[str], *, end: bool = True) -> NgramScorer:
        """From an ARPA file."""
        return cls(NgramModel.read(path), pieces, end=end)

    def to(self, device: torch.device | str) -> NgramScorer:
        """Move the arrays."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def init(self, size: int, device: torch.device) -> Tensor:
        """States [size] after <s>."""
        if self.keys.device != torch.device(device):
            self.to(device)
        return torch.full((size,), self.start, dtype=torch.long, device=device)

    def score(self, state: Tensor, tokens: Tensor) -> Tensor:
        """tokens [N, K] → log P [N, K]."""
        return self._look_up(state, tokens)[0]

    def advance(self, state: Tensor, tokens: Tensor) -> Tensor:
        """States after tokens [N]; -1 leaves one as it is."""
        following = self._look_up(state, tokens.clamp(min=0)[:, None])[1][:, 0]
        return torch.where(tokens >= 0, following, state)

    def select(self, state: Tensor, index: Tensor) -> Tensor:
        """States of hypotheses index."""
        return state[index]

    def final(self, state: Tensor) -> Tensor:
        """log P(</s>), [N]."""
        if not self.end:
            return self.first.new_zeros(state.shape)
        return self.score(state, torch.full_like(state, self.vocab - 1)[:, None])[:, 0]

    def _look_up(self, state: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        node = state[:, None].expand_as(tokens)
        score, total = torch.zeros_like(tokens, dtype=self.first.dtype), torch.zeros_like(tokens, dtype=self.first.dtype)
        following, open = torch.zeros_like(tokens), torch.ones_like(tokens, dtype=torch.bool)
        for _ in range(self.order - 1):
            key = node * self.vocab + tokens
            place = torch.searchsorted(self.keys, key)
            found = (self.keys[place] == key) & open & (node > 0)
            score = torch.where(found, total + self.scores[place], score)
            following = torch.where(found, self.next[place], following)
            open = open & ~found
            total = total + self.backoff[node]
            node = self.shorter[node]
        score = torch.where(open, total + self.first[tokens], score)
        return score, torch.where(open, self.first_next[tokens], following)


class KenlmScorer:
    """A KenLM model (binary or ARPA) through the optional `kenlm` package: hypothesis by hypothesis, for models too large for RAM.

    Args and errors as `NgramScorer`; a binary does not list its words, so that a model over other tokens shows as all-unknown.
    """

    def __init__(self, path: str | Path, pieces: Sequence[str], *, end: bool = True) -> None:
        from voxkit.optional import require

        self.kenlm = require("kenlm", "lm", why="KenLM models")
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        self.model, self.end, self.most = self.kenlm.Model(str(path)), end, 0.0
        self.pieces = [UNK if p in (BOS, EOS) else p for p in pieces]  # a search may offer their ids; nobody says them
        words = [p for p in pieces if p not in (BOS, EOS, UNK)]
        missing = [p for p in words if p not in self.model]
        _refuse_other_tokens(missing, words, str(path))

    def init(self, size: int, device: torch.device) -> list:
        """States after <s>."""
        state = self.kenlm.State()
        self.model.BeginSentenceWrite(state)
        return [state] * size

    def score(self, state: list, tokens: Tensor) -> Tensor:
        """tokens [N, K] → log P [N, K]; equal states are asked once."""
        out, memory, new = [], {}, self.kenlm.State()
        for s, row in zip(state, tokens.tolist()):
            for token in row:
                key = (id(s), token)
                if key not in memory:
                    memory[key] = self.model.BaseScore(s, self.pieces[token], new) * _LN10
                out.append(memory[key])
        return torch.tensor(out, device=tokens.device).view(tokens.shape)

    def advance(self, state: list, tokens: Tensor) -> list:
        """States after tokens [N]."""
        out = []
        for s, token in zip(state, tokens.tolist()):
            if token >= 0:
                new = self.kenlm.State()
                self.model.BaseScore(s, self.pieces[token], new)
                s = new
            out.append(s)
        return out

    def select(self, state: list, index: Tensor) -> list:
        """States of hypotheses index."""
        return [state[i] for i in index.tolist()]

    def final(self, state: list) -> Tensor:
        """log P(</s>), [N]."""
        new = self.kenlm.State()
        return torch.tensor([self.model.BaseScore(s, EOS, new) * _LN10 if self.end else 0.0 for s in state])


def check_vocabulary(model: NgramModel, pieces: Sequence[str], name: str = "the language model") -> None:
    """A model whose words are not (nearly all) the tokenizer's pieces is over other tokens: ValueError."""
    words = [w for w in model.vocabulary if w not in (BOS, EOS, UNK)]
    known = set(pieces)
    _refuse_other_tokens([w for w in words if w not in known], words, name)


def check_complete(model: NgramModel, pieces: Sequence[str], name: str) -> None:
    """A model that lacks more than a few of a tokenizer's pieces (without blank, <s>, </s> and <unk>) is of another one, maybe a smaller
    one whose pieces this one has too: ValueError."""
    known = set(model.vocabulary)
    _refuse_other_tokens([p for p in pieces if p not in known], list(pieces), name)


def _refuse_other_tokens(missing: list[str], words: list[str], name: str) -> None:
    if words and len(missing) > 0.1 * len(words):
        raise ValueError(f"{name} is over other tokens than the tokenizer: {len(missing)} of {len(words)} are not shared, e.g. "
                         f"{', '.join(map(repr, missing[:3]))}; train one with `voxkit lm train --tokenizer` on this tokenizer")


def _longest(gram: tuple[str, ...], nodes: dict[tuple[str, ...], int]) -> int:
    while gram not in nodes:
        gram = gram[1:]
    return nodes[gram]
