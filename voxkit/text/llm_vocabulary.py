"""The tokens of a language model that a speech model may say, under ids of its own: blank, end, then the candidates.

A language model knows 50,000 to 260,000 tokens, and the transcripts of a corpus use a few thousand of them. CTC tells these apart and no
others, and the language model's head is computed over them and over what must be pushed down: a line break, punctuation and the other
spelling in upper and lower case. Any text can still be spelled, for all bytes are among the candidates.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from voxkit.files import read_text, write_json
from voxkit.text.huggingface import HuggingFaceVocabulary

_NAME = "candidates.json"
_FIRST = 2  # behind blank and end


class LLMVocabulary:
    """`Vocabulary` over some tokens of another one.

    Args:
        base: the language model's own.
        candidates: ids of `base`; those that CTC tells apart first.
        heard: how many of them CTC tells apart; None: all.

    Attributes:
        model_ids: [size] the language model's id of each token; blank has that of the end, which nobody reads.
        heard: ids below this are CTC's, blank and end among them.

    Raises:
        ValueError: a language model without an end, special or repeated candidates, or not all bytes among them.
    """

    blank: int | None = 0
    eos: int | None = 1
    bos: int | None = None
    unk: int | None = None
    specials = frozenset({0, 1})

    def __init__(self, base: HuggingFaceVocabulary, candidates: Sequence[int], heard: int | None = None) -> None:
        if base.eos is None:
            raise ValueError("the language model's tokenizer names no token for the end (eos_token in its tokenizer_config.json)")
        if len(set(candidates)) < len(candidates) or base.specials & set(candidates):
            raise ValueError("candidates: a token is there twice, or a special one; make the list again (`voxkit tokenize --kind llm`)")
        if missing := set(base.byte_tokens) - set(candidates):
            raise ValueError(f"candidates: {len(missing)} of the 256 bytes are missing, so that not every text can be spelled")
        self.base, self.model_ids = base, [base.eos, base.eos, *candidates]
        self.heard = _FIRST + (len(candidates) if heard is None else heard)
        self._index = {id: n for n, id in enumerate(self.model_ids) if n >= _FIRST}

    @classmethod
    def of_texts(cls, base: HuggingFaceVocabulary, texts: Iterable[str]) -> LLMVocabulary:
        """The candidates for a corpus: CTC tells its tokens and all bytes apart; behind them come what else must be pushed down."""
        heard, others = set(base.byte_tokens), set()
        words: set[str] = set()
        for text in texts:
            heard.update(base.encode(text))
            words.update(text.split())
        for word in words:
            for variant in {word.lower(), word.upper(), word.capitalize()}:
                others.update(base.encode(variant))
                others.update(base.encode("a " + variant)[1:])  # behind a blank it is another token
        others.update(id for id in range(base.size) if id not in base.specials and _is_punctuation(base, id))
        heard -= base.specials | {base.unk}
        return cls(base, [*sorted(heard), *sorted(others - heard - base.specials - {base.unk})], len(heard))

    @classmethod
    def whole(cls, base: HuggingFaceVocabulary) -> LLMVocabulary:
        """All the language model's tokens."""
        left_out = base.specials | {base.unk}
        return cls(base, [id for id in range(base.size) if id not in left_out and not base.pieces[id].startswith("<no token ")])

    @classmethod
    def load(cls, path: str | os.PathLike) -> LLMVocabulary:
        """From the folder that `save` wrote.

        Raises:
            ValueError: a list that belongs to another tokenizer, or is none.
        """
        path = Path(path)
        try:
            content = json.loads(read_text(path / _NAME))
            ids, heard = [int(id) for id in content["ids"]], int(content["heard"])
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path / _NAME}: no list of candidates ({error}); `voxkit tokenize --kind llm` makes one") from error
        base = HuggingFaceVocabulary.load(path)
        if content.get("tokenizer") != base.fingerprint():
            raise ValueError(f"{path / _NAME} was made with another tokenizer.json than the one beside it: put back that one, or make the "
                             "list again")
        return cls(base, ids, heard)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the list and the language model's own files into the folder `path`."""
        path = Path(path)
        path = path.parent if path.suffix == ".json" else path
        self.base.save(path)
        write_json(path / _NAME, {"tokenizer": self.base.fingerprint(), "heard": self.heard - _FIRST, "ids": self.model_ids[_FIRST:]})
        return path / _NAME

    @property
    def size(self) -> int:
        """Candidates, blank and end."""
        return len(self.model_ids)

    @cached_property
    def pieces(self) -> list[str]:
        """As the language model's own file writes them."""
        return ["<blank>", "<end>", *(self.base.pieces[id] for id in self.model_ids[_FIRST:])]

    @cached_property
    def word_starts(self) -> list[bool]:
        """For every token, whether it begins a word behind a letter."""
        return [False] * _FIRST + [self.base.word_starts[id] for id in self.model_ids[_FIRST:]]

    def encode(self, text: str) -> list[int]:
        """Ids of a transcript; a token that is no candidate is spelled by its bytes."""
        out: list[int] = []
        for id in self.base.encode(text):
            known = self._index.get(id)
            out += [known] if known is not None else [self._index[self.base.byte_tokens[byte]] for byte in self.base.token_bytes(id)]
        return out

    def sample(self, text: str, dropout: float, rng: random.Random) -> list[int]:
        """As `encode`: a language model knows one spelling of a word.

        Raises:
            ValueError: another is asked for.
        """
        if dropout > 0:
            raise ValueError(f"data.bpe_dropout {dropout:g}: the vocabulary of a language model spells in one way; set it to 0")
        return self.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, blank and end dropped."""
        return self.base.decode(self._model_id(id) for id in self.spoken(ids))

    def spoken(self, ids: Iterable[int]) -> list[int]:
        """Ids without blank and end."""
        return [id for id in map(int, ids) if id not in self.specials]

    def words(self, ids: Sequence[int]) -> list[tuple[str, range]]:
        """The words of ids, each with the range of its places."""
        return self.base.words([self._model_id(int(id)) for id in ids])

    def fingerprint(self) -> str:
        """64 bits of a SHA-256 over the language model's tokenizer and the list."""
        content = json.dumps([self.base.fingerprint(), self.heard, self.model_ids])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _model_id(self, id: int) -> int:
        if not 0 <= id < self.size:
            raise ValueError(f"token id {id} is outside this vocabulary of {self.size}; is it the one that the model was trained with?")
        return self.model_ids[id]


def _is_punctuation(base: HuggingFaceVocabulary, id: int) -> bool:
    """One or two marks or line breaks, a blank before them or not."""
    text = base.token_bytes(id).decode("utf-8", "replace")
    marks = text.removeprefix(" ")
    return 0 < len(marks) <= 2 and all(mark == "\n" or unicodedata.category(mark)[0] in "PS" and mark != "\ufffd" for mark in marks)
