"""The vocabulary of a pretrained model: Hugging Face's `tokenizer.json`, by the `tokenizers` package alone.

Two kinds spell speech models and language models: byte-level BPE (GPT-2, Whisper, Qwen, Llama 3; Radford et al. 2019), whose tokens are
bytes written as letters, and SentencePiece's with byte fallback (Llama 2, Gemma), whose tokens write a blank as "▁" and bytes as <0xE2>.
Either way a token is bytes, and a character may lie across several.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from voxkit.files import decode, writing
from voxkit.optional import require
from voxkit.text.words import begins_word, words_of

_NAMES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_MARK = re.compile(r"<\|.*\|>", re.DOTALL)  # Whisper's times, and tasks of chat models, are not called special in every file
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class HuggingFaceVocabulary:
    """`Vocabulary` of a `tokenizer.json`. It can be pickled. It has no blank: what was pretrained without CTC has none.

    Args:
        files: name → content, of tokenizer.json and, where there are any, tokenizer_config.json, which names bos, eos and unk, and
            chat_template.jinja.
        source: where they came from, for messages.

    Raises:
        ValueError: the file cannot be read, or is of another kind than the two; MissingPackage: tokenizers.
    """

    blank: int | None = None

    def __init__(self, files: dict[str, bytes], source: str = "tokenizer.json") -> None:
        tokenizers = require("tokenizers", "text", why="the vocabulary of a pretrained model")
        self._files, self._source = files, source
        try:
            about = json.loads(decode(files[_NAMES[0]], source))
            added = about.get("added_tokens") or []
            plain = [token for token in added if not token["special"] and _MARK.fullmatch(token["content"])]
            for token in plain:
                token["special"] = True
            self._tokenizer = tokenizers.Tokenizer.from_buffer(json.dumps(about).encode() if plain else files[_NAMES[0]])
        except Exception as error:  # tokenizers raises plain Exception
            raise ValueError(f"{source}: not a tokenizer of Hugging Face's format: {error}") from error
        self._tokenizer.encode_special_tokens = True  # as letters: no transcript can say one
        self._decoder = _decoder_kinds(about.get("decoder"))
        if not self._decoder & {"ByteLevel", "ByteFallback", "Metaspace"}:
            raise ValueError(f"{source}: a tokenizer that is neither byte-level BPE nor SentencePiece's (its decoder is "
                             f"{', '.join(sorted(self._decoder)) or 'missing'}); give the folder of a Whisper, Qwen, Llama or Gemma")
        config = json.loads(decode(files[_NAMES[1]], source)) if _NAMES[1] in files else {}
        named = {name: self._id(config.get(f"{name}_token")) for name in ("bos", "eos", "unk", "pad")}
        self.bos, self.eos, self.unk = named["bos"], named["eos"], named["unk"]
        if self.unk is None:
            self.unk = self._id((about.get("model") or {}).get("unk_token"))
        if self.unk in (self.bos, self.eos):  # GPT-2 and Whisper name their end of text so: bytes leave nothing unknown
            self.unk = None
        marks = {token["id"] for token in added if token["special"]}
        marks |= {id for id in named.values() if id is not None}
        self.specials = frozenset(marks - {self.unk})
        self._added = {token["id"]: token["content"] for token in added}

    @classmethod
    def load(cls, path: str | os.PathLike) -> HuggingFaceVocabulary:
        """Read a `tokenizer.json`, or the one in a directory, with the `tokenizer_config.json` beside it.

        Raises:
            ValueError: none there, or none that can be used.
        """
        path = Path(path)
        file = path / _NAMES[0] if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"no tokenizer.json at {file}: is it the folder of a pretrained model?")
        beside = {name: file.parent / name for name in _NAMES[1:]}
        return cls({_NAMES[0]: file.read_bytes()} | {name: at.read_bytes() for name, at in beside.items() if at.is_file()}, str(file))

    def save(self, path: str | os.PathLike) -> Path:
        """Write its files, atomically, into the directory `path`, or as the file `path` and beside it."""
        path = Path(path)
        file = path if path.suffix == ".json" else path / _NAMES[0]
        for name, content in self._files.items():
            with writing(file if name == _NAMES[0] else file.parent / name, "wb") as out:
                out.write(content)
        return file

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without begin and end; an empty one gives an empty list. The name of a special token in a
        text is spelled as any other text."""
        return self._tokenizer.encode(" ".join(text.split()), add_special_tokens=False).ids

    def encode_marked(self, text: str) -> list[int]:
        """Token ids of a text as it stands, white space and all, in which the names of special tokens mean these: for the frame that a chat
        template puts around what people say, never for what people say."""
        return self._marking.encode(text, add_special_tokens=False).ids

    @cached_property
    def _marking(self) -> Any:
        return require("tokenizers", "text").Tokenizer.from_buffer(self._files[_NAMES[0]])

    @cached_property
    def chat_template(self) -> str | None:
        """How a conversation is written down for the model (Jinja), where it was trained on any."""
        if _NAMES[2] in self._files:
            return decode(self._files[_NAMES[2]], _NAMES[2])
        config = json.loads(decode(self._files[_NAMES[1]], self._source)) if _NAMES[1] in self._files else {}
        found = config.get("chat_template")
        if isinstance(found, list):  # several, by name
            found = next((one["template"] for one in found if one.get("name") == "default"), None)
        return found

    @cached_property
    def byte_tokens(self) -> tuple[int, ...]:
        """The token of each of the 256 bytes.

        Raises:
            ValueError: it has not all of them.
        """
        if "ByteLevel" in self._decoder:
            letters = {byte: letter for letter, byte in _LETTERS.items()}
            found = [self._tokenizer.token_to_id(letters[byte]) for byte in range(256)]
        else:
            found = [self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        if None in found:
            raise ValueError(f"{self._source}: no token for byte 0x{found.index(None):02X}, so that not every text can be spelled")
        return tuple(found)

    def sample(self, text: str, dropout: float, rng: random.Random) -> list[int]:
        """As `encode`: a pretrained model knows one spelling of a word.

        Raises:
            ValueError: another is asked for.
        """
        if dropout > 0:
            raise ValueError(f"data.bpe_dropout {dropout:g}: the vocabulary of a pretrained model ({self._source}) spells in one way; set "
                             "it to 0")
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special ones dropped; bytes that are no character show as U+FFFD.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return " ".join(b"".join(self.token_bytes(i) for i in self.spoken(ids)).decode("utf-8", "replace").split())

    def spoken(self, ids: Iterable[int]) -> list[int]:
        """Ids without special ones."""
        return [i for i in map(int, ids) if i not in self.specials]

    def words(self, ids: Sequence[int]) -> list[tuple[str, range]]:
        """The words of token ids, each with the range of its places.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        return words_of(self._units(ids))

    @cached_property
    def size(self) -> int:
        """The highest id, and one. A model may have more outputs, since widths are often rounded up: they mean nothing."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @cached_property
    def pieces(self) -> list[str]:
        """Every token as its file writes it; ids that the file leaves out have names that nothing else has."""
        pieces = [f"<no token {i}>" for i in range(self.size)]
        for piece, id in self._tokenizer.get_vocab(with_added_tokens=True).items():
            pieces[id] = piece
        return pieces

    @cached_property
    def word_starts(self) -> list[bool]:
        """For every token, whether it begins a word behind a letter."""
        out = []
        for id in range(self.size):
            text = "" if id in self.specials else self.token_bytes(id).decode("utf-8", "ignore")
            out.append(bool(text) and begins_word("a", text[0]))
        return out

    def fingerprint(self) -> str:
        """64 bits of tokenizer.json's SHA-256, in hexadecimal: two vocabularies with the same one are the same."""
        return hashlib.sha256(self._files[_NAMES[0]]).hexdigest()[:16]

    def _units(self, ids: Sequence[int]) -> Iterator[tuple[int, int, str]]:
        """(first token, token after the last, text) of the least runs of tokens that hold whole characters."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text, start, stop = "", 0, 0
        for n, id in enumerate(map(int, ids)):
            if id in self.specials:
                continue
            start = n if start == stop else start
            stop = n + 1
            text += decoder.decode(self.token_bytes(id))
            if not decoder.getstate()[0]:
                yield start, stop, text
                text, start, stop = "", 0, 0
        if text or stop:
            yield start, stop, text + decoder.decode(b"", final=True)

    def token_bytes(self, id: int) -> bytes:
        """What a token adds to a text.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        if id in self._added:
            return self._added[id].replace("▁", " ").encode() if "ByteLevel" not in self._decoder else self._added[id].encode()
        piece = self._tokenizer.id_to_token(id) if id >= 0 else None
        if piece is None:
            raise ValueError(f"token id {id} is outside this vocabulary of {self.size}; is it the one that the model was trained with?")
        if "ByteLevel" in self._decoder:
            return bytes(_LETTERS[c] for c in piece) if all(c in _LETTERS for c in piece) else piece.encode()
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()

    def _id(self, token: Any) -> int | None:
        """Of a token as a configuration names it: its text, or an object that has it as `content`."""
        content = token.get("content") if isinstance(token, dict) else token
        return self._tokenizer.token_to_id(content) if isinstance(content, str) else None

    def __getstate__(self) -> tuple[dict[str, bytes], str]:
        return self._files, self._source

    def __setstate__(self, state: tuple[dict[str, bytes], str]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def _decoder_kinds(decoder: dict[str, Any] | None) -> set[str]:
    """The kinds of a decoder, those of a sequence together."""
    if not decoder:
        return set()
    return {decoder["type"]}.union(*(_decoder_kinds(one) for one in decoder.get("decoders", ())))


def _byte_letters() -> dict[str, int]:
    """The letter of each byte in byte-level BPE: printable bytes are themselves, the others the letters from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + n): byte for n, byte in enumerate(others)}}


_LETTERS = _byte_letters()
