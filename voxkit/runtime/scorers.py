"""What adds to a hypothesis token by token, for one hypothesis at a time: n-grams, phrases, a bonus; the tables of voxkit.search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from voxkit.search.ngram import NgramModel
from voxkit.search.ngram_table import NgramTable, check_complete
from voxkit.search.phrase_table import PhraseTable, spell
from voxkit.text.vocabulary import Vocabulary


class TokenScorer(Protocol):
    """The interface. A state is a value; nothing changes it."""

    def start(self) -> Any:
        """Of the empty hypothesis."""

    def step(self, state: Any, token: int) -> tuple[float, Any]:
        """What a token adds (natural log, weight included), and the state after it."""

    def end(self, state: Any) -> float:
        """What the end of the utterance adds."""


class Ngram:
    """A back-off model times a weight.

    Args:
        table: over the vocabulary's tokens; weight: of its log-probabilities.
    """

    def __init__(self, table: NgramTable, weight: float = 1.0) -> None:
        self.table, self.weight = table, weight

    def start(self) -> int:
        return self.table.start

    def step(self, state: int, token: int) -> tuple[float, int]:
        score, after = self.table.look_up(state, token)
        return self.weight * score, after

    def end(self, state: int) -> float:
        return self.weight * self.table.look_up(state, self.table.vocab - 1)[0]


class Phrases:
    """Favored phrases (hotwords)."""

    def __init__(self, table: PhraseTable) -> None:
        self.table = table

    def start(self) -> int:
        return 0

    def step(self, state: int, token: int) -> tuple[float, int]:
        return self.table.step(state, token)

    def end(self, state: int) -> float:
        return self.table.end(state)


class Bonus:
    """A constant per token, against short hypotheses."""

    def __init__(self, bonus: float) -> None:
        self.bonus = bonus

    def start(self) -> None:
        return None

    def step(self, state: None, token: int) -> tuple[float, None]:
        return self.bonus, None

    def end(self, state: None) -> float:
        return 0.0


class Sum:
    """Several scorers, added."""

    def __init__(self, scorers: list[TokenScorer]) -> None:
        self.scorers = scorers

    def start(self) -> tuple[Any, ...]:
        return tuple(s.start() for s in self.scorers)

    def step(self, state: tuple[Any, ...], token: int) -> tuple[float, tuple[Any, ...]]:
        total, after = 0.0, []
        for scorer, own in zip(self.scorers, state):
            gain, own = scorer.step(own, token)
            total += gain
            after.append(own)
        return total, tuple(after)

    def end(self, state: tuple[Any, ...]) -> float:
        return sum(scorer.end(own) for scorer, own in zip(self.scorers, state))


def combine(parts: Iterable[TokenScorer | None]) -> TokenScorer | None:
    """Those that there are, as one; None where there is none."""
    present = [part for part in parts if part is not None]
    return None if not present else present[0] if len(present) == 1 else Sum(present)


def read_ngram(path: str | Path, vocabulary: Vocabulary) -> NgramTable:
    """An ARPA file (`.gz` too) over a vocabulary's pieces.

    Raises:
        ValueError: no such file, not ARPA, or over other tokens.
    """
    model = NgramModel.read(path)
    spoken = [piece for i, piece in enumerate(vocabulary.pieces) if i not in vocabulary.specials and i != vocabulary.unk]
    check_complete(model, spoken, str(path))
    return NgramTable(model, vocabulary.pieces)


def phrases(wanted: Mapping[str, float] | Iterable[str], vocabulary: Vocabulary, boost: float = 1.5) -> Phrases:
    """Phrases to favor by `boost` nats per token, or each by its own.

    Raises:
        ValueError: none, or one that the vocabulary cannot spell.
    """
    return Phrases(PhraseTable(*spell(wanted, vocabulary, boost)))
