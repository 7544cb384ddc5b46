"""What a pretrained causal language model expects next at every place of a text, as food for an n-gram: where the transcripts of a corpus
are few, many words of a test set are in none of them, and the large model knows most of those.

The n-gram is then an approximation of the large model by sampling (Deoras et al. 2011, Variational approximation of long-span language
models for LVCSR), in the contexts of the own text, and as quick as any n-gram.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from voxkit.infer.pretrained_lm import PretrainedLM
from voxkit.search.ngram import BOS

_SPACE = "▁"  # begins the first piece of a word (SentencePiece); byte-level BPE has Ġ
_BYTE_SPACE = "Ġ"
_CONTEXT = 8  # words, which are more than the pieces that an n-gram looks back
_LOGITS = 2 ** 24  # numbers in the largest tensor: 64 MB


@dataclass(frozen=True)
class Place:
    """Before a word of a text.

    Attributes:
        context: up to eight words before it, of the same text; `<s>` first where it begins there.
        words: what was drawn → how often.
    """

    context: tuple[str, ...]
    words: Counter[str]

    def line(self) -> str:
        """As a line of JSON."""
        return json.dumps({"context": " ".join(self.context), "words": dict(sorted(self.words.items()))}, ensure_ascii=False) + "\n"


@torch.inference_mode()
def expected_words(lm: PretrainedLM, texts: Sequence[str], draws: int = 16, *, window: int = 256, batch: int = 8,
                   seed: int = 0) -> Iterator[list[Place]]:
    """Draw words from the model's distribution at every place of the texts where a word begins, in batches of places.

    Texts follow one another as running text, so that the model sees those before; upper case is handed on in lower case, as to
    `PretrainedLM.score`, and comes back in upper case. Only words that are one piece of the model's vocabulary are drawn, made of
    characters that the texts have. A piece may be the beginning of a longer word: each counts with the probability that a word ends
    behind it, as the model says without context.

    Args:
        texts: of the corpus, normalized as the n-gram will see text.
        draws: for each place.
        window: tokens of the model's that go through it together.
        batch: of such windows.

    Raises:
        ValueError: no text, or the model's vocabulary has no pieces that begin words.
    """
    texts, upper = _plain(texts)
    pieces = _Pieces(lm, set("".join(texts)), upper)
    generator, dice = torch.Generator().manual_seed(seed), random.Random(seed)
    windows = list(_windows(lm, texts, window, upper))
    for low in range(0, len(windows), batch):
        chosen = windows[low:low + batch]
        states = lm.states([ids for ids, _ in chosen])
        asked = [(row, before, context) for row, (_, places) in enumerate(chosen) for before, context in places]
        of, at = torch.tensor([(row, before) for row, before, _ in asked]).T
        drawn = torch.cat([pieces.draw(part, draws, generator) for part in states[of, at].split(pieces.rows)])
        pieces.learn(drawn)
        yield [Place(context, pieces.words(row, dice)) for (_, _, context), row in zip(asked, drawn.tolist())]


def _plain(texts: Sequence[str]) -> tuple[list[str], bool]:
    """Those that say something, with single blanks, and whether all are upper case."""
    said = [" ".join(text.split()) for text in texts if text.split()]
    if not said:
        raise ValueError("there is no text to go on from")
    return said, all(text.isupper() for text in said)


def _windows(lm: PretrainedLM, texts: Sequence[str], size: int,
             upper: bool) -> Iterator[tuple[list[int], list[tuple[int, tuple[str, ...]]]]]:
    """Token ids, `start` first, with the places before words in them: (index of the token before, words of the same text before)."""
    ids: list[int] = [lm.start]
    places: list[tuple[int, tuple[str, ...]]] = []
    for text in texts:
        words = text.split()
        spelled = [lm.tokenizer(" " + (word.lower() if upper else word), add_special_tokens=False).input_ids for word in words]
        if len(ids) > 1 and len(ids) + sum(map(len, spelled)) > size:
            yield ids, places
            ids, places = [lm.start], []
        for n, pieces in enumerate(spelled):
            places.append((len(ids) - 1, (BOS, *words[:n])[-_CONTEXT:]))
            ids = ids + pieces
    yield ids, places


class _Pieces:
    """Which tokens of the model are words, and how likely each ends one."""

    def __init__(self, lm: PretrainedLM, characters: set[str], upper: bool) -> None:
        self.lm = lm
        self.word: dict[int, str] = {}
        begins = torch.zeros(lm.config.vocab_size, dtype=torch.bool)
        for piece, token in lm.tokenizer.get_vocab().items():
            if token >= lm.config.vocab_size:
                continue
            inner = piece[1:]
            if piece[:1] in (_SPACE, _BYTE_SPACE):
                begins[token] = True
                spelled = inner.upper() if upper else inner
                if inner and inner == inner.lower() and set(spelled) <= characters:
                    self.word[token] = spelled
            elif not any(c.isalnum() or c in "'’" for c in piece):
                begins[token] = True  # punctuation, line ends: the word before is whole
        if not self.word:
            raise ValueError(f"{lm.folder}: no piece of its vocabulary is a word in the characters of the text")
        self.begins, self.tokens = begins.to(lm.device), torch.tensor(sorted(self.word), device=lm.device)
        self.rows = max(1, _LOGITS // len(self.word))
        self.ending: dict[int, float] = {}

    def draw(self, states: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """What the head reads before N words [N, D] → tokens that are words [N, draws], on the CPU."""
        p = self.lm.logits(states, self.tokens).float().softmax(-1).cumsum(-1).cpu()
        at = torch.searchsorted(p, torch.rand(len(p), draws, generator=generator) * p[:, -1:])
        return self.tokens.cpu()[at.clamp(max=len(self.tokens) - 1)]

    def learn(self, tokens: Tensor) -> None:
        """How likely a word ends behind each of the tokens, kept."""
        new = [token for token in tokens.unique().tolist() if token not in self.ending]
        size = max(1, _LOGITS // self.lm.config.vocab_size)
        for low in range(0, len(new), size):
            part = new[low:low + size]
            p = self.lm.logits(self.lm.states([[self.lm.start, token] for token in part])[:, 1]).float().softmax(-1)
            self.ending.update(zip(part, p[:, self.begins].sum(-1).tolist()))

    def words(self, tokens: Sequence[int], dice: random.Random) -> Counter[str]:
        """Drawn tokens → words; where a piece may go on, by chance."""
        return Counter(self.word[token] for token in tokens if dice.random() < self.ending[token])


def read_places(path: str | Path, split: Callable[[str], list[str]]) -> Iterator[tuple[list[str], list[str], int]]:
    """What `voxkit lm sample` wrote, as continuations for `voxkit.search.ngram.train`.

    Args:
        split: text → the n-gram's words, or pieces.

    Raises:
        ValueError: no such file, or not such lines; the first wrong one is named.
    """
    for place in _read(path):
        whole = place.context[:1] == (BOS,)
        before = [*([BOS] if whole else []), *split(" ".join(place.context[whole:]))]
        yield from ((before, split(word), often) for word, often in place.words.items())


def substituted_lines(texts: Sequence[str], path: str | Path, count: int, *, share: float = 0.5, seed: int = 0) -> Iterator[str]:
    """The texts again and again, with words in the place of others that the large model might have said there, of those drawn always the
    one that texts and lines have had least often: lines with as many different words as there are to be had, for speech to be made of.

    Args:
        texts: those that `voxkit lm sample` had, in the same order.
        path: what it wrote.
        count: of lines.
        share: probability that a word gives way to one that was drawn in its place.

    Raises:
        ValueError: no such file, or the places of other texts.
    """
    dice = random.Random(seed)
    texts, _ = _plain(texts)
    said = Counter(word for text in texts for word in text.split())
    rows = _placed(texts, _read(path), path)
    order: list[int] = []
    for _ in range(count):
        if not order:
            order = dice.sample(range(len(rows)), len(rows))
        line = []
        for word, drawn in rows[order.pop()]:
            others = [other for other in drawn if other != word]
            if others and dice.random() < share:
                word = min(others, key=lambda other: (said[other], dice.random()))
            said[word] += 1
            line.append(word)
        yield " ".join(line)


def _placed(texts: Sequence[str], places: Iterator[Place], path: str | Path) -> list[list[tuple[str, list[str]]]]:
    """Each word of each text with what might stand in its place."""
    other = f"{path} is of other text than this, or of another --normalize: "
    again = "; run `voxkit lm sample` on this --text"
    rows = []
    for text in texts:
        words, row = text.split(), []
        for n, word in enumerate(words):
            place = next(places, None)
            if place is None or place.context != (BOS, *words[:n])[-_CONTEXT:]:
                found = "it ends" if place is None else f"it has {' '.join(place.context)!r}"
                raise ValueError(f"{other}{found} where {word!r} of {text[:60]!r} should follow{again}")
            row.append((word, sorted(place.words)))
        rows.append(row)
    if next(places, None) is not None:
        raise ValueError(f"{other}it goes on after the last line{again}")
    return rows


def _read(path: str | Path) -> Iterator[Place]:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `voxkit lm sample` makes one")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
                yield Place(tuple(found["context"].split()), Counter({str(word): int(often) for word, often in found["words"].items()}))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, line {number}: not what `voxkit lm sample` writes: {line.strip()[:80]!r}") from error
