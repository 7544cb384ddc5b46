"""Small vocabularies of the kinds that there are, made in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voxkit.text.words import words_of


def letters(folder: Path, specials: tuple[str, ...] = ()) -> Path:
    """A tokenizer.json of byte-level BPE whose ids 0, 1, 2, ... are the letters A, B, C, ...; merges make "Ġ" + letter pairs of "HEAL";
    special tokens come last. → its folder."""
    tokenizers = pytest.importorskip("tokenizers", reason="vocabularies of pretrained models need tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    first = [chr(c) for c in range(ord("A"), ord("Z") + 1)]
    pieces = [*first, *(c for c in alphabet if c not in first), "ĠH", "EA", "ĠHEA", "ĠHEAL"]
    merges = [("Ġ", "H"), ("E", "A"), ("ĠH", "EA"), ("ĠHEA", "L")]
    made = tokenizers.Tokenizer(tokenizers.models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(list(specials))
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    if specials:
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": specials[0], "eos_token": {"content": specials[-1]}}))
    return folder


def fallback(folder: Path) -> Path:
    """A tokenizer.json as Llama 2 and Gemma have it: "▁" for blanks, bytes as <0x00>, <unk>. → its folder."""
    tokenizers = pytest.importorskip("tokenizers", reason="vocabularies of pretrained models need tokenizers")
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"HEALMNOW", "▁HE", "AL", "HE"]
    merges = [("H", "E"), ("▁", "HE"), ("A", "L")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    made.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(),
                                                 tokenizers.decoders.Fuse()])
    made.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>"])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}))
    return folder


class Pieces:
    """`Vocabulary` of a list of pieces in which "▁" stands for a blank, as SentencePiece writes them: id 0 is the blank, `unk` what is
    unknown, and nothing else is special."""

    blank, bos, eos, specials = 0, None, None, frozenset((0,))

    def __init__(self, pieces: list[str], unk: int | None = 3) -> None:
        self.pieces, self.size, self.unk = pieces, len(pieces), unk
        self.word_starts = [piece.startswith("▁") for piece in pieces]

    def encode(self, text: str) -> list[int]:
        """Words that are pieces of their own."""
        return [self.pieces.index("▁" + word) for word in text.split()]

    def decode(self, ids) -> str:
        """As SentencePiece does."""
        return " ".join("".join(" ⁇ " if i == self.unk else self.pieces[i] for i in self.spoken(ids)).replace("▁", " ").split())

    def spoken(self, ids) -> list[int]:
        """All but the blank."""
        return [i for i in ids if i not in self.specials]

    def words(self, ids) -> list[tuple[str, range]]:
        """By the room's own rule of words."""
        return words_of((n, n + 1, " ⁇ " if i == self.unk else self.pieces[i].replace("▁", " ")) for n, i in enumerate(ids))
