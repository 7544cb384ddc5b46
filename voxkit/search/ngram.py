"""n-gram language models: training with interpolated modified Kneser-Ney (Chen & Goodman 1999), ARPA in and out.

    model = train(["HEAL ME NOW".split(), ...], order=4)
    model.write("lm.arpa"); NgramModel.read("lm.arpa")

Words are strings: words, or the pieces of a tokenizer. voxkit/search/ngram_scorer.py uses a model in a beam.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxkit.search.arpa import read_arpa, write_arpa

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
_NEVER = -99.0  # ARPA's log10(0)


@dataclass
class NgramModel:
    """A back-off model.

    Attributes:
        ngrams: per order 1, 2, ...: n-gram → (log10 probability, log10 back-off weight).
    """

    ngrams: list[dict[tuple[str, ...], tuple[float, float]]]

    @property
    def order(self) -> int:
        """Longest n-gram."""
        return len(self.ngrams)

    @property
    def vocabulary(self) -> list[str]:
        """All words, with <s>, </s> and <unk> where the model has them."""
        return [words[0] for words in self.ngrams[0]]

    def log10(self, word: str, context: Sequence[str]) -> float:
        """log10 P(word | context); a word not known is <unk>."""
        known = self.ngrams[0]
        words = tuple(w if (w,) in known else UNK for w in (*context, word))[-self.order:]
        total = 0.0
        while len(words) > 1:
            found = self.ngrams[len(words) - 1].get(words)
            if found is not None:
                return total + found[0]
            total += self.ngrams[len(words) - 2].get(words[:-1], (0.0, 0.0))[1]
            words = words[1:]
        return total + known.get(words, (_NEVER, 0.0))[0]

    def sentence(self, words: Sequence[str]) -> float:
        """log10 probability of a sentence, <s> before and </s> after it."""
        padded = [BOS, *words, EOS]
        return sum(self.log10(padded[i], padded[max(0, i - self.order + 1):i]) for i in range(1, len(padded)))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Perplexity per word, </s> counted."""
        total, count = 0.0, 0
        for words in sentences:
            total, count = total + self.sentence(words), count + len(words) + 1
        if not count:
            raise ValueError("no sentences: there is nothing to take the perplexity of")
        return 10 ** (-total / count)

    def write(self, path: str | Path) -> None:
        """Write ARPA; `.gz` compresses."""
        write_arpa(path, self.ngrams)

    @classmethod
    def read(cls, path: str | Path) -> NgramModel:
        """Read ARPA, `.gz` too.

        Raises:
            ValueError: no such file, or what `read_arpa` refuses; with the line.
        """
        return cls(read_arpa(path))


def train(sentences: Iterable[Sequence[str]], order: int = 4, *, vocabulary: Iterable[str] | None = None,
          continuations: Iterable[tuple[Sequence[str], Sequence[str], int]] = (), prune: Sequence[int] = (0,)) -> NgramModel:
    """Train on sentences of words.

    Args:
        continuations: besides, (beginning of a sentence, or its last words; words that may follow there; how often). What follows is
            counted, in the places it stands in; the beginning is not, nor an end. `<s>` first in a beginning says that it is whole.
        prune: for orders 1, 2, ..., the last for those above too: n-grams that count so much or less are left out, and what they had is
            left to the shorter ones (KenLM's --prune). What longer ones begin with stays.
        vocabulary: all words that may ever turn up (a tokenizer's pieces); those not seen share the probability of <unk>'s
            kind, the uniform part of the unigrams. By default the words seen.

    Raises:
        ValueError: no text, or an order below 1.
    """
    if order < 1:
        raise ValueError(f"order is {order}: it must be at least 1")
    if not prune or prune[0] != 0 or list(prune) != sorted(prune):
        raise ValueError(f"prune is {list(prune)}: counts for the orders 1, 2, ..., 0 first (unigrams stay), none below the one before")
    ids: dict[str, int] = {BOS: 0, EOS: 1, UNK: 2}
    for word in vocabulary or ():
        ids.setdefault(word, len(ids))
    stream: list[int] = []
    for words in sentences:
        if any(w in (BOS, EOS) for w in words):
            raise ValueError(f"a sentence holds {BOS} or {EOS}, which mark sentences: {' '.join(words)[:80]!r}")
        stream += [0, *(ids.setdefault(w, len(ids)) for w in words), 1]
    if not stream:
        raise ValueError("the text is empty: an n-gram model cannot be trained on nothing")
    times = [1] * len(stream)
    for beginning, following, often in continuations:
        stream += [*(ids.setdefault(w, len(ids)) for w in (*beginning[-order:], *following)), 1]
        times += [0] * min(order, len(beginning)) + [often] * len(following) + [0]
    return _estimate(np.asarray(stream, dtype=np.int64), np.asarray(times, dtype=np.int64), list(ids), order, prune)


@dataclass
class _Order:
    """The distinct n-grams of one order: `at` where one occurs in the stream, `prefix` and `suffix` their indices one order below, `kept`
    where it is not pruned."""

    at: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray
    counts: np.ndarray
    bos: np.ndarray
    kept: np.ndarray
    p: np.ndarray | None = None
    backoff: np.ndarray | None = None


def _estimate(stream: np.ndarray, times: np.ndarray, words: list[str], order: int, prune: Sequence[int]) -> NgramModel:
    orders = _count(stream, times, len(words), order)
    for n in range(len(orders) - 1):  # below the highest order, what counts is how many different words come before
        left = np.bincount(orders[n + 1].suffix[orders[n + 1].counts > 0], minlength=len(orders[n].counts))
        orders[n].counts = np.where(orders[n].bos, orders[n].counts, left)
    orders[0].counts[0] = 0  # <s> is never predicted
    types = len(words) - 1
    for n, o in enumerate(orders):
        discount = _discounts(o.counts)[np.minimum(o.counts, 3)]
        o.kept = (o.counts > prune[min(n, len(prune) - 1)]) | (n == 0)
        discount = np.where(o.kept, discount, o.counts)
        contexts = len(orders[n - 1].counts) if n else 1
        total = np.bincount(o.prefix, weights=o.counts, minlength=contexts)
        held = np.bincount(o.prefix, weights=discount, minlength=contexts)
        gamma = np.divide(held, total, out=np.ones_like(held), where=total > 0)
        lower = orders[n - 1].p[o.suffix] if n else np.full(len(o.counts), 1.0 / types)
        with np.errstate(invalid="ignore", divide="ignore"):
            o.p = np.where(total[o.prefix] > 0, (o.counts - discount) / total[o.prefix], 0.0) + gamma[o.prefix] * lower
        if n:
            orders[n - 1].backoff = gamma
    for n in range(len(orders) - 1, 0, -1):
        orders[n - 1].kept[orders[n].prefix[orders[n].kept]] = True
    out = []
    for n, o in enumerate(orders):
        probability = np.log10(np.maximum(o.p, 1e-99)).tolist()
        backoff = np.log10(o.backoff).tolist() if o.backoff is not None else [0.0] * len(o.p)
        grams = stream[o.at[:, None] + np.arange(n + 1)].tolist() if n else [[i] for i in range(len(words))]
        entries = zip(grams, probability, backoff, o.kept.tolist())
        out.append({tuple(words[i] for i in gram): (p, b) for gram, p, b, kept in entries if kept})
    out[0][(BOS,)] = (_NEVER, out[0][(BOS,)][1])
    return NgramModel(out)


def _count(stream: np.ndarray, times: np.ndarray, vocab: int, order: int) -> list[_Order]:
    """Distinct n-grams of every order with raw counts: each counts as often as its last word does there. None crosses the end of a
    sentence."""
    counts = np.bincount(stream, weights=times, minlength=vocab).astype(np.int64)
    zero = np.zeros(vocab, dtype=np.int64)
    orders = [_Order(zero, zero, zero, counts, np.arange(vocab) == 0, np.ones(vocab, dtype=bool))]
    ids, valid = stream.copy(), np.ones(len(stream), dtype=bool)
    for n in range(2, order + 1):
        # an n-gram is the (n-1)-gram it begins with, and one word; it may not go on after </s>
        here = np.flatnonzero(valid[:-1] & valid[1:] & (stream[:-1] != 1))
        here = here[here + n <= len(stream)]
        here = here[(times[here + n - 1] > 0) | (stream[here + n - 1] != 1)]  # not the mark behind a continuation
        if len(here) == 0:
            break
        keys = ids[here] * vocab + stream[here + n - 1]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        number = np.bincount(inverse, weights=times[here + n - 1], minlength=len(first)).astype(np.int64)
        at = here[first]
        orders.append(_Order(at, ids[at], ids[at + 1], number, stream[at] == 0, np.ones(len(at), dtype=bool)))
        valid = np.zeros(len(stream), dtype=bool)
        valid[here] = True
        ids = np.zeros(len(stream), dtype=np.int64)
        ids[here] = inverse
    return orders


def _discounts(counts: np.ndarray) -> np.ndarray:
    """[0, D1, D2, D3+] from the counts of counts; where there are too few for the formula, KenLM's fallback 0.5, 1, 1.5."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(float)
    if np.all(n > 0):
        y = n[0] / (n[0] + 2 * n[1])
        d = np.array([0.0, *(k - (k + 1) * y * n[k] / n[k - 1] for k in (1, 2, 3))])
        if np.all(d[1:] >= 0) and np.all(d[1:] <= [1, 2, 3]):
            return d
    return np.array([0.0, 0.5, 1.0, 1.5])
