"""How much of a text a vocabulary can spell: what it lacks is learned, and scored, as the one unknown token, and nobody would see it.

    coverage = Coverage(vocabulary)
    ids = coverage.encode("u1", "heal me")      for every text
    coverage.check("train")                     says what is lacking, and refuses where that is much
"""

from __future__ import annotations

from collections import Counter

from voxkit.text.vocabulary import Vocabulary

MOST = 0.1  # share of texts with unknown characters above which text and vocabulary do not belong together
_NAMED = 3


class Coverage:
    """Counts of one set of texts.

    Attributes:
        texts: how many; lacking: names of those with something unknown; characters: what cannot be spelled → how often.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.texts = 0
        self.lacking: list[str] = []
        self.characters: Counter[str] = Counter()

    def encode(self, name: str, text: str) -> list[int]:
        """The ids of a text, counted under the name."""
        ids, unknown = self.vocabulary.encode(text), self.vocabulary.unk
        self.texts += 1
        if unknown is not None and unknown in ids:
            self.lacking.append(name)
            self.characters.update(c for c in text if not c.isspace() and unknown in self.vocabulary.encode(c))
        return ids

    def check(self, what: str, most: float = MOST) -> str | None:
        """Whether the texts of `what` can be spelled: None, or how many cannot, which, and for want of what.

        Raises:
            ValueError: more than the share `most` of them cannot.
        """
        if not self.lacking:
            return None
        missing = ", ".join(f"{c!r} ({n})" for c, n in self.characters.most_common(_NAMED))
        said = (f"{what}: {len(self.lacking)} of {self.texts} texts hold characters that the tokenizer lacks, {missing}; "
                f"e.g. {', '.join(self.lacking[:_NAMED])}")
        if len(self.lacking) > most * self.texts:
            raise ValueError(f"{said}. Is it the tokenizer of this text, and is the text written as its own was (upper or lower case: "
                             "--normalize, --text of `voxkit prepare`)? Or make one with `voxkit tokenize`")
        return said
