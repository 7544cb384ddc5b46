"""The vocabulary that `voxkit tokenize` makes: SentencePiece, byte-pair encoding or characters, in one file `tokenizer.model`.

Its ids: 0 is padding and the CTC blank, 1 the beginning and 2 the end of a sentence, 3 what a text has and the vocabulary lacks.
SentencePiece itself changes nothing in a transcript (white space apart): what a transcript looks like is decided before, by
`voxkit.text.normalize`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece

from voxkit.files import writing
from voxkit.text.words import begins_word, words_of

_PAD, _BOS, _EOS, _UNK = range(4)
_UNKNOWN = "\u2047"  # as SentencePiece shows it
_WORD_START = "\u2581"  # SentencePiece's mark for the blank before a word


class SentencePieceVocabulary:
    """`Vocabulary` of a trained SentencePiece model. It can be pickled, and sent to the workers of a loader.

    Args:
        model: the serialized model, the bytes of a `tokenizer.model`.
        source: where it came from, for messages.
    """

    blank, bos, eos, unk = _PAD, _BOS, _EOS, _UNK
    specials = frozenset((_PAD, _BOS, _EOS))

    def __init__(self, model: bytes, source: str = "these bytes"):
        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"{source}: not a SentencePiece model; make one with `voxkit tokenize`") from error
        ids = tuple(getattr(self._processor, f"{name}_id")() for name in ("pad", "bos", "eos", "unk"))
        if ids != (_PAD, _BOS, _EOS, _UNK):
            raise ValueError(f"{source}: its pad, bos, eos, unk are {ids} and must be {(_PAD, _BOS, _EOS, _UNK)}; "
                             "make one with `voxkit tokenize`")

    @classmethod
    def load(cls, path: str | os.PathLike) -> SentencePieceVocabulary:
        """Read a `tokenizer.model`, or the one in a directory (a checkpoint, the output of `voxkit tokenize`).

        Raises:
            ValueError: it is not there, or not a SentencePiece model with voxkit's ids.
        """
        path = Path(path)
        file = path / "tokenizer.model" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"no tokenizer at {file}; make one with `voxkit tokenize`")
        return cls(file.read_bytes(), str(file))

    def save(self, path: str | os.PathLike) -> Path:
        """Write it, atomically, as the file `path`, or as `tokenizer.model` in the directory `path`."""
        path = Path(path)
        return _write(path / "tokenizer.model" if path.is_dir() else path, self._model)

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript, without begin and end; an empty one gives an empty list."""
        return self._processor.encode(" ".join(text.split()))

    def sample(self, text: str, dropout: float, rng: random.Random) -> list[int]:
        """Token ids of one of the ways to spell a transcript: BPE-dropout (Provilkov et al. 2020, arXiv 1910.13267). Every merge is left
        out with the probability `dropout` each time it could be made, so that a model meets a word in longer and in shorter pieces and
        learns what the shorter ones sound like; 0 spells as `encode` does, 1 in characters. `decode` gives the same text for all.

        SentencePiece has this too, but from a generator that cannot be set again, and a run has to continue exactly.
        """
        ids: list[int] = []
        for word in text.split():
            pieces = list(_WORD_START + word)
            if not all(piece in self._ids for piece in pieces):  # unknown letters: as SentencePiece has it
                ids += self._processor.encode(word)
                continue
            while True:
                pairs = ((self._ids.get(a + b, _UNK), n) for n, (a, b) in enumerate(zip(pieces, pieces[1:])))
                merges = [(-self._processor.get_score(id), n) for id, n in pairs if id != _UNK and rng.random() >= dropout]
                if not merges:
                    break
                n = min(merges)[1]
                pieces[n:n + 2] = [pieces[n] + pieces[n + 1]]
            ids += [self._ids[piece] for piece in pieces]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; blank, begin and end (0, 1, 2) are dropped, unknown (3) shows as U+2047.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return " ".join(self._processor.decode(self._inside(self.spoken(ids))).split())

    def spoken(self, ids: Iterable[int]) -> list[int]:
        """Ids without blank, begin and end."""
        return [i for i in map(int, ids) if i not in self.specials]

    def words(self, ids: Sequence[int]) -> list[tuple[str, range]]:
        """The words of token ids, each with the range of its places; what is unknown is a word of its own.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return words_of((n, n + 1, self._texts[i]) for n, i in enumerate(self._inside([int(i) for i in ids])))

    def _inside(self, ids: list[int]) -> list[int]:
        outside = [i for i in ids if not 0 <= i < self.size]
        if outside:
            raise ValueError(f"token id {outside[0]} is outside this vocabulary of {self.size}; is it the one that the model was trained "
                             "with?")
        return ids

    @property
    def size(self) -> int:
        """How many tokens there are, the four special ones among them."""
        return self._processor.get_piece_size()

    @cached_property
    def pieces(self) -> list[str]:
        """Every token as SentencePiece writes it: `▁` (U+2581) stands for the blank before a word."""
        return [self._processor.id_to_piece(i) for i in range(self.size)]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces) if i > _UNK}

    @cached_property
    def _texts(self) -> list[str]:
        """What each token adds to a text, with a blank before it where it begins a word; special ones nothing."""
        texts = [piece.replace(_WORD_START, " ") for piece in self.pieces]
        return ["", "", "", f" {_UNKNOWN} ", *texts[_UNK + 1:]]

    @cached_property
    def word_starts(self) -> list[bool]:
        """For every token, whether it begins a word behind a letter; it may be the mark alone (`▁`), with the letters in later tokens."""
        return [bool(text) and i != _UNK and begins_word("a", text[0]) for i, text in enumerate(self._texts)]

    def fingerprint(self) -> str:
        """64 bits of the model's SHA-256, in hexadecimal: two vocabularies with the same one are the same."""
        return hashlib.sha256(self._model).hexdigest()[:16]

    def __getstate__(self) -> bytes:
        return self._model

    def __setstate__(self, model: bytes) -> None:
        self.__init__(model)  # type: ignore[misc]


def train_bpe(texts: Iterable[str], vocab_size: int, path: str | os.PathLike) -> SentencePieceVocabulary:
    """Train byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) and write it; same texts, same file.

    Args:
        texts: normalized transcripts.
        vocab_size: tokens in all, the four special ones and every character of the texts among them.
        path: the file to write, or a directory, which gets `tokenizer.model`.

    Raises:
        ValueError: no text, or a size these texts cannot fill or fit in; the message says which sizes can be had.
    """
    texts = _checked(texts)
    try:
        model = _train(texts, model_type="bpe", vocab_size=vocab_size)
    except RuntimeError as error:
        if high := re.search(r"Vocabulary size too high.*<= (\d+)", str(error)):
            raise ValueError(f"vocab_size {vocab_size} is more than these {len(texts)} transcripts can fill; the largest "
                             f"that works is {high[1]}. Choose that or less, or use characters (--kind char)") from error
        if low := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
            raise ValueError(f"vocab_size {vocab_size} leaves no room for the characters of these {len(texts)} "
                             f"transcripts; the smallest that works is {low[1]}. Rare characters are often a slip in "
                             "normalization: see --text of `voxkit prepare`") from error
        raise
    return _finish(model, path)


def train_characters(texts: Iterable[str], path: str | os.PathLike) -> SentencePieceVocabulary:
    """One token per character of the texts, the blank between words among them; written as `train_bpe` does.

    Raises:
        ValueError: no text.
    """
    texts = _checked(texts)
    return _finish(_train(texts, model_type="char", vocab_size=8000, use_all_vocab=True), path)


def _train(texts: Sequence[str], **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model,
        pad_id=_PAD, bos_id=_BOS, eos_id=_EOS, unk_id=_UNK, pad_piece="<blk>",
        character_coverage=1.0, normalization_rule_name="identity",
        max_sentence_length=1 << 24,  # longer ones would be left out without a word
        shuffle_input_sentence=False, num_threads=1, minloglevel=2, **options)
    return model.getvalue()


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise ValueError("texts is one string; give a list of transcripts")
    kept = [squeezed for text in texts if (squeezed := " ".join(text.split()))]
    if not kept:
        raise ValueError("no text to train a tokenizer on: every transcript is empty")
    return kept


def _finish(model: bytes, path: str | os.PathLike) -> SentencePieceVocabulary:
    path = Path(path)
    file = path if path.suffix == ".model" else path / "tokenizer.model"
    return SentencePieceVocabulary(_write(file, model).read_bytes(), str(file))


def _write(file: Path, model: bytes) -> Path:
    with writing(file, "wb") as out:
        out.write(model)
    return file
