"""What the ids that a model says mean: one contract for SentencePiece pieces, characters, and the vocabularies of pretrained models.

Nothing but a vocabulary knows which ids are special, or how a token shows that a word begins: whoever searches, aligns or serves asks it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol


class Vocabulary(Protocol):
    """Text ↔ token ids.

    Attributes:
        size: tokens, the special ones among them; ids are 0 ... size - 1.
        blank, bos, eos, unk: ids of CTC's blank, of the beginning and the end of a sentence, of what cannot be spelled; None: has none.
        specials: ids that stand for no text (blank, bos, eos, padding, task and time marks of a pretrained model); unk is none of them.
        pieces: [size] how each token is written in the vocabulary's own file; all different.
        word_starts: [size] whether a token always begins a word.
    """

    @property
    def size(self) -> int: ...
    @property
    def blank(self) -> int | None: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def unk(self) -> int | None: ...
    @property
    def specials(self) -> frozenset[int]: ...
    @property
    def pieces(self) -> Sequence[str]: ...
    @property
    def word_starts(self) -> Sequence[bool]: ...

    def encode(self, text: str) -> list[int]:
        """Ids of a transcript, without begin and end; an empty one gives an empty list."""

    def sample(self, text: str, dropout: float, rng: random.Random) -> list[int]:
        """Ids of one of the ways to spell a transcript, for training; 0: as `encode`.

        Raises:
            ValueError: this vocabulary has one spelling for every word.
        """

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, specials dropped, white space squeezed to single blanks.

        Raises:
            ValueError: an id outside the vocabulary.
        """

    def spoken(self, ids: Iterable[int]) -> list[int]:
        """Ids without the special ones."""

    def words(self, ids: Sequence[int]) -> list[tuple[str, range]]:
        """The words that ids spell, each with the range of its places in `ids`; joined by blanks they are `decode`'s text where words are
        written apart. Tokens that share a character are in one word."""

    def fingerprint(self) -> str:
        """64 bits of its file's SHA-256, in hexadecimal: two vocabularies with the same one are the same."""

    def save(self, path: str | os.PathLike) -> Path:
        """Write it, atomically, under its usual name into the folder `path` (or as the file `path`) → the file."""


class NoText:
    """The vocabulary of a system without text: it has no ids, and nothing of it is kept."""

    size = 0
    blank = bos = eos = unk = None
    specials: frozenset[int] = frozenset()
    pieces: Sequence[str] = ()
    word_starts: Sequence[bool] = ()

    def encode(self, text: str) -> list[int]:
        return []

    def sample(self, text: str, dropout: float, rng: random.Random) -> list[int]:
        return []

    def decode(self, ids: Iterable[int]) -> str:
        if found := list(ids):
            raise ValueError(f"id {found[0]}: a system without text has no ids")
        return ""

    def spoken(self, ids: Iterable[int]) -> list[int]:
        return []

    def words(self, ids: Sequence[int]) -> list[tuple[str, range]]:
        return []

    def fingerprint(self) -> str:
        return "no text"

    def save(self, path: str | os.PathLike) -> Path:
        return Path(path)


def no_text(path: str | os.PathLike = "") -> NoText:
    """The vocabulary of systems that have none (`System.vocabulary`), wherever it is looked for."""
    return NoText()


def load_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """The vocabulary in a folder (a checkpoint, what `voxkit tokenize` made, a pretrained model), or of a file.

    `tokenizer.json` is Hugging Face's format and goes before: the folders of pretrained models may hold a `tokenizer.model` besides. With
    `candidates.json` beside it, it is of a language model as a speech model uses it.

    Raises:
        ValueError: neither is there, or it cannot be used.
    """
    from voxkit.text.huggingface import HuggingFaceVocabulary
    from voxkit.text.llm_vocabulary import LLMVocabulary
    from voxkit.text.sentencepiece import SentencePieceVocabulary

    path = Path(path)
    if (path / "candidates.json").is_file():
        return LLMVocabulary.load(path)
    if path.suffix == ".json" or (path / "tokenizer.json").is_file():
        return HuggingFaceVocabulary.load(path)
    return SentencePieceVocabulary.load(path)
