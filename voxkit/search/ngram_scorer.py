"""An n-gram model in a beam: back-off look-ups for all hypotheses at once, in the sorted arrays of voxkit/search/ngram_table.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from voxkit.search.ngram import BOS, EOS, UNK, NgramModel
from voxkit.search.ngram_table import NgramTable, refuse_other_tokens

_LN10 = math.log(10)


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
        table = NgramTable(model, pieces)
        self.vocab, self.order, self.end, self.most = table.vocab, table.order, end, 0.0
        self.keys, self.next, self.shorter = (torch.from_numpy(x) for x in (table.keys, table.next, table.shorter))
        self.scores, self.backoff, self.first = (torch.from_numpy(x) for x in (table.scores, table.backoff, table.first))
        self.first_next, self.start = torch.from_numpy(table.first_next), table.start

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
        refuse_other_tokens(missing, words, str(path))

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
