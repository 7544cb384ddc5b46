"""Contextual biasing: a phrase list as an Aho-Corasick automaton over tokens, as a `Scorer` for every search.

While a hypothesis spells a phrase it is lent the phrase's boost, token by token; it keeps the loan if it ends the phrase at a
word's end, and pays it back if it leaves the phrase before (Zhao et al. 2019; icefall's context graph). What a whole
hypothesis gets is therefore the sum of the boosts of its phrases, and "heal" lends nothing for good to "health".
The state is the automaton's node, so that it streams: nothing is looked at twice.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from voxkit.search.phrase_table import PhraseTable, spell
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
        ValueError: no phrases, an empty one, tokens outside of the vocabulary, a boost too few or too many, or that is no finite number.
    """

    def __init__(self, phrases: Sequence[Sequence[int]], vocab_size: int, boost: float | Sequence[float] = 1.5,
                 word_starts: Sequence[bool] | None = None) -> None:
        table = PhraseTable(phrases, vocab_size, boost, word_starts)
        self.vocab_size, self.most = vocab_size, table.most
        self.keys, self.targets, self.root = (torch.from_numpy(x) for x in (table.keys, table.targets, table.root))
        self.lent, self.earned = torch.from_numpy(table.lent), torch.from_numpy(table.earned)
        self.word_starts = torch.from_numpy(table.word_starts)

    @classmethod
    def from_texts(cls, phrases: Mapping[str, float] | Iterable[str], vocabulary: Vocabulary, boost: float = 1.5) -> ContextGraph:
        """Phrases as text, each with `boost`; a mapping gives each phrase its own.

        Raises:
            ValueError: as the class; or a phrase that the vocabulary cannot spell.
        """
        return cls(*spell(phrases, vocabulary, boost))

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
