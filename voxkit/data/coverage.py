"""Whether a vocabulary can spell a set's transcripts: lower-case text under an upper-case tokenizer is `<unk>` from end to end, and a model
that learns it looks well trained and knows nothing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxkit.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

MOST_UNKNOWN = 0.01  # share of tokens that may be unknown
_LOOKED_AT = 20_000  # transcripts of a large set


@dataclass
class Coverage:
    """What a vocabulary does not know of some transcripts.

    Attributes:
        transcripts, tokens: looked at; unknown: tokens of them.
        touched: transcripts that hold an unknown token.
        characters: that no token spells, by how often they occur.
        examples: (id, transcript) of some that hold unknown tokens.
    """

    transcripts: int = 0
    tokens: int = 0
    unknown: int = 0
    touched: int = 0
    characters: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the tokens that are unknown."""
        return self.unknown / self.tokens if self.tokens else 0.0

    def report(self) -> str:
        """In one line; empty where all is known."""
        if not self.unknown:
            return ""
        characters = " ".join(f"{character!r}" for character, _ in self.characters.most_common(8))
        examples = "; ".join(f"{id}: {text[:60]!r}" for id, text in self.examples[:3])
        return (f"{self.unknown} of {self.tokens} tokens ({self.share:.1%}) in {self.touched} of {self.transcripts} transcripts are "
                "unknown to the tokenizer" + (f", which lacks {characters}" if characters else "") + f" ({examples})")


def measure_coverage(transcripts: Iterable[tuple[str, str]], vocabulary: Vocabulary) -> Coverage:
    """Count the unknown tokens of (id, transcript) pairs. A vocabulary without an unknown token spells everything."""
    found = Coverage()
    if vocabulary.unk is None:
        return found
    known: dict[str, bool] = {}
    for id, text in transcripts:
        tokens = vocabulary.encode(text)
        unknown = sum(token == vocabulary.unk for token in tokens)
        found.transcripts += 1
        found.tokens += len(tokens)
        if unknown:
            found.unknown += unknown
            found.touched += 1
            if len(found.examples) < 3:
                found.examples.append((id, text))
            for character in text:
                if character not in known:
                    known[character] = vocabulary.unk not in vocabulary.encode(character)
                if not known[character]:
                    found.characters[character] += 1
    return found


def check_coverage(transcripts: Iterable[tuple[str, str]], vocabulary: Vocabulary, where: str, most: float = MOST_UNKNOWN) -> Coverage:
    """Refuse transcripts that a vocabulary cannot spell; warn of the odd one that it cannot.

    Args:
        transcripts: (id, transcript) pairs; of a large set the first 20,000 are looked at.
        where: names the option or file in messages, e.g. `data.train`.
        most: share of unknown tokens above which they are refused.

    Raises:
        ValueError: more tokens are unknown; the message names examples and, where it would help, the other case.
    """
    looked_at = list(islice(transcripts, _LOOKED_AT))
    found = measure_coverage(looked_at, vocabulary)
    if found.share > most:
        raise ValueError(f"{where}: {found.report()}. {_advice(looked_at, vocabulary, found)}")
    if found.unknown:
        logger.warning("%s: %s", where, found.report())
    return found


def _advice(transcripts: list[tuple[str, str]], vocabulary: Vocabulary, found: Coverage) -> str:
    for name, change, rule in (("upper", str.upper, "--text librispeech"), ("lower", str.lower, "--text lower")):
        other = measure_coverage(((id, change(text)) for id, text in transcripts[:1000]), vocabulary)
        if other.share < 0.1 * found.share:
            return f"In {name} case it knows them: prepare the set with {rule}, or train a tokenizer on its transcripts (`voxkit tokenize`)"
    return "Train a tokenizer on these transcripts (`voxkit tokenize`), or prepare the set with the normalisation of the tokenizer's text"
