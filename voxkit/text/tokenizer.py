"""Text to token ids and back: SentencePiece, byte-pair encoding or characters, in one file `tokenizer.model`.

The ids every system relies on: 0 is padding and the CTC blank, 1 the beginning and 2 the end of a sentence, 3 what the
text had and the tokenizer lacks. SentencePiece itself changes nothing in a transcript (white space apart): what a
transcript looks like is decided before, by `voxkit.text.normalise`.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import tempfile
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import sentencepiece

BLANK = PAD = 0
BOS = 1
EOS = 2
UNK = 3

_WORD_START = "\u2581"  # SentencePiece's mark for the blank before a word


class Tokenizer:
    """A trained SentencePiece model. It can be pickled, and sent to the workers of a loader.

    Args:
        model: the serialised model, the bytes of a `tokenizer.model`.
        source: where it came from, for messages.
    """

    def __init__(self, model: bytes, source: str = "these bytes"):
        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"{source}: not a SentencePiece model; make one with `voxkit tokenize`") from error
        found = tuple(getattr(self._processor, f"{name}_id")() for name in ("pad", "bos", "eos", "unk"))
        if found != (PAD, BOS, EOS, UNK):
            raise ValueError(f"{source}: its pad, bos, eos, unk are {found} and must be {(PAD, BOS, EOS, UNK)}; "
                             "make one with `voxkit tokenize`")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
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
                pairs = ((self._ids.get(a + b, UNK), n) for n, (a, b) in enumerate(zip(pieces, pieces[1:])))
                merges = [(-self._processor.get_score(id), n) for id, n in pairs if id != UNK and rng.random() >= dropout]
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
        kept = [int(i) for i in ids if int(i) not in (PAD, BOS, EOS)]
        outside = [i for i in kept if not 0 <= i < self.vocab_size]
        if outside:
            raise ValueError(f"token id {outside[0]} is outside this tokenizer's vocabulary of {self.vocab_size}; "
                             "is it the tokenizer that the model was trained with?")
        return " ".join(self._processor.decode(kept).split())

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, the four special ones among them."""
        return self._processor.get_piece_size()

    @cached_property
    def pieces(self) -> list[str]:
        """Every token as SentencePiece writes it: `▁` (U+2581) stands for the blank before a word."""
        return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces) if i > UNK}

    @cached_property
    def word_starts(self) -> list[bool]:
        """For every token, whether it begins a word; it may be the mark alone (`▁`), with the letters in later tokens."""
        return [i > UNK and piece.startswith(_WORD_START) for i, piece in enumerate(self.pieces)]

    def fingerprint(self) -> str:
        """64 bits of the model's SHA-256, in hexadecimal: two tokenizers with the same one are the same."""
        return hashlib.sha256(self._model).hexdigest()[:16]

    def __getstate__(self) -> bytes:
        return self._model

    def __setstate__(self, model: bytes) -> None:
        self.__init__(model)  # type: ignore[misc]

    def __len__(self) -> int:
        return self.vocab_size


def train_bpe(texts: Iterable[str], vocab_size: int, path: str | os.PathLike) -> Tokenizer:
    """Train byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) and write it; same texts, same file.

    Args:
        texts: normalised transcripts.
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
                             "normalisation: see --text of `voxkit prepare`") from error
        raise
    return _finish(model, path)


def train_characters(texts: Iterable[str], path: str | os.PathLike) -> Tokenizer:
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
        pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=UNK, pad_piece="<blk>",
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


def _finish(model: bytes, path: str | os.PathLike) -> Tokenizer:
    path = Path(path)
    file = path if path.suffix == ".model" else path / "tokenizer.model"
    return Tokenizer(_write(file, model).read_bytes(), str(file))


def _write(file: Path, model: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name + ".", suffix=".part")
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(model)
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return file
