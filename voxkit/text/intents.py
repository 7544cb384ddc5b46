"""What a player wants: recognized text → the intent of a pack, its slots and a confidence, or nothing.

The text is aligned with every pattern of the pack, word by word and term by term (an edit distance whose costs are of words), and the
cheapest alignment answers. A word that is nearly the pattern's, as a recognizer may mishear it, costs a part of a word. A word that the
pack knows as another one costs all of it, so that near commands stay apart; so does a negation. Nothing is answered below a confidence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from voxkit.hypothesis import Hypothesis
from voxkit.text.normalize import normalize
from voxkit.text.pack import Pack, Slot

CONFIDENCE = 0.7  # below which nothing is answered, where it is not said
_NEARLY = 0.6  # similarity from which a word may be another one misheard
_MARGIN = 0.25  # of cost, by which the best meaning should be ahead of the next
_LITTLE = set("a an and at for from in is it of on our please ok okay now right so that the their them there this to uh um we with you "
              "your hey".split())
_NEGATIONS = set("not don't never no cannot can't stop without".split())
_WORD, _EXTRA, _SMALL = 1.0, 0.4, 0.1  # costs of a pattern's word, of a further word, of a little one


@dataclass(frozen=True)
class Answer:
    """What was meant: an intent, its kind, slot → term, and how sure that is in [0, 1]."""

    intent: str
    kind: str
    slots: dict[str, str] = field(default_factory=dict)
    confidence: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """As `{"intent", "kind", "slots", "confidence"}`."""
        return {"intent": self.intent, "kind": self.kind, "slots": self.slots, "confidence": round(self.confidence, 3)}


@dataclass(frozen=True)
class _Variant:
    template: int
    parts: tuple[str | Slot, ...]
    scale: float  # cost that takes a confidence from 1 to 0
    literals: tuple[str, ...]


_Spans = dict[str, list[list[tuple[int, float, str]]]]  # class → of every end: (begin, cost, term)


class Matcher:
    """Text → Answer for one pack.

    Args:
        confidence: below which nothing is answered.

    Raises:
        ValueError: a pack without templates, a confidence outside [0, 1].
    """

    def __init__(self, pack: Pack, confidence: float = CONFIDENCE) -> None:
        if not pack.templates:
            raise ValueError(f"{pack.where or pack.name}: it has no templates, so that nothing can be meant; add templates")
        if not 0 <= confidence <= 1:
            raise ValueError(f"a command's confidence of {confidence} is not in [0, 1]")
        self.pack, self.confidence = pack, confidence
        self._variants = [_variant(n, parts) for n, template in enumerate(pack.templates) for pattern in template.patterns
                          for parts in pattern.variants()]
        self._near = [[_words(phrase) for phrase in template.near] for template in pack.templates]
        self._forms = {kind: [(" ".join(_words(form)), term) for term in terms for form in term.spoken]
                       for kind, terms in pack.classes.items()}
        self._others = {kind: [(" ".join(_words(near)), term.name) for term in terms for near in term.near]
                        for kind, terms in pack.classes.items()}
        self._known_forms = {form for forms in self._forms.values() for form, _ in forms}
        self._longest = {kind: 1 + max(len(form.split()) for form, _ in forms) for kind, forms in self._forms.items()}
        self._literals = {word for variant in self._variants for word in variant.literals}
        self._known = self._literals | {word for form in self._known_forms for word in form.split()} | {
            word for near in self._near for phrase in near for word in phrase}

    def answer(self, heard: str | Hypothesis) -> Answer | None:
        """What was meant; None where it is nothing of the pack, or not sure enough."""
        best = self.best(heard)
        return best if best is not None and best.confidence >= self.confidence else None

    def best(self, heard: str | Hypothesis) -> Answer | None:
        """What is likeliest meant, however unsure; None where no words were heard or nothing is near at all."""
        text = heard if isinstance(heard, str) else heard.text
        words = _words(text)
        if not words:
            return None
        found = self._meanings(words)
        if not found:
            return None
        cost, scale, intent, kind, slots = found[0]
        sure = max(0.0, 1.0 - cost / scale)
        if cost > 0 and len(found) > 1:
            sure *= 0.5 + 0.5 * min(1.0, (found[1][0] - cost) / _MARGIN)
        sure *= 1.0 if isinstance(heard, str) else spoken_confidence(heard)
        return Answer(intent, kind, dict(slots), sure) if sure > 0 else None

    def _meanings(self, words: list[str]) -> list[tuple[float, float, str, str, tuple[tuple[str, str], ...]]]:
        """Different meanings (cost, scale, intent, kind, slots), the cheapest first; among equals the pack's order."""
        extra = [_extra(word) for word in words]
        there = {word: min(self._swap(word, other) for other in words) for word in self._literals}
        spans = {kind: self._spans(kind, words) for kind in self._forms}
        dropped = {n: self._is_near(n, words, extra) for n in range(len(self.pack.templates))}
        best: dict[tuple, tuple[float, float, int]] = {}
        for order, variant in enumerate(self._variants):
            if sum(min(there[word], _missing(word)) for word in variant.literals) >= variant.scale:
                continue
            cost, slots = self._align(variant.parts, words, extra, spans)
            if cost >= variant.scale or cost >= dropped[variant.template]:
                continue
            template = self.pack.templates[variant.template]
            key = (template.intent, template.kind, tuple(sorted(slots)))
            if key not in best or cost / variant.scale < best[key][0] / best[key][1]:
                best[key] = (cost, variant.scale, order)
        ranked = sorted(best.items(), key=lambda item: (item[1][0] / item[1][1], item[1][2]))
        return [(cost, scale, intent, kind, slots) for (intent, kind, slots), (cost, scale, _) in ranked]

    def _align(self, parts: Sequence[str | Slot], words: list[str], extra: list[float],
               spans: _Spans) -> tuple[float, tuple[tuple[str, str], ...]]:
        """The cheapest way to read words as a pattern: its cost, and what fills the slots."""
        row: list[tuple[float, tuple[tuple[str, str], ...]]] = [(0.0, ())]
        for cost in extra:
            row.append((row[-1][0] + cost, ()))
        for part in parts:
            after: list[tuple[float, tuple[tuple[str, str], ...]]] = []
            missing = math.inf if isinstance(part, Slot) else _missing(part)
            for j in range(len(words) + 1):
                cost, slots = row[j][0] + missing, row[j][1]
                if j and after[j - 1][0] + extra[j - 1] < cost:
                    cost, slots = after[j - 1][0] + extra[j - 1], after[j - 1][1]
                if isinstance(part, Slot):
                    for begin, own, term in spans[part.kind][j]:
                        if row[begin][0] + own < cost:
                            cost, slots = row[begin][0] + own, (*row[begin][1], (part.name, term))
                elif j and (swapped := row[j - 1][0] + self._swap(part, words[j - 1])) < cost:
                    cost, slots = swapped, row[j - 1][1]
                after.append((cost, slots))
            row = after
        return row[-1]

    def _swap(self, word: str, heard: str) -> float:
        """Cost of hearing another word than the pattern's."""
        if word == heard:
            return 0.0
        whole = _missing(word) + _extra(heard)
        return whole if heard in self._known or heard in _NEGATIONS else min(whole, _WORD * _distance(word, heard))

    def _spans(self, kind: str, words: list[str]) -> list[list[tuple[int, float, str]]]:
        """For every end, the terms that may stand before it."""
        places = [(i, j) for j in range(1, len(words) + 1) for i in range(max(0, j - self._longest[kind]), j)]
        texts = [" ".join(words[i:j]) for i, j in places]
        forms, others = self._forms[kind], self._others[kind]
        likeness = process.cdist(texts, [form for form, _ in forms], scorer=Levenshtein.normalized_similarity)
        apart = process.cdist(texts, [form for form, _ in others], scorer=Levenshtein.normalized_similarity) if others else None
        out: list[list[tuple[int, float, str]]] = [[] for _ in range(len(words) + 1)]
        for row, (i, j) in enumerate(places):
            best: dict[str, float] = {}
            for column, (form, term) in enumerate(forms):
                like = float(likeness[row, column])
                if like < _NEARLY or like < 1 and texts[row] in self._known_forms:
                    continue
                if apart is not None and any(name == term.name and apart[row, n] >= like for n, (_, name) in enumerate(others)):
                    continue
                cost = (1 - like) * sum(_missing(word) for word in form.split())
                best[term.name] = min(cost, best.get(term.name, math.inf))
            out[j] += [(i, cost, name) for name, cost in best.items()]
        return out

    def _is_near(self, template: int, words: list[str], extra: list[float]) -> float:
        """Cost of what the template's `not` names; below it the command must be to be meant."""
        cost = math.inf
        for phrase in self._near[template]:
            if any(words[i:i + len(phrase)] == phrase for i in range(len(words) - len(phrase) + 1)):
                return 0.0
            cost = min(cost, self._align(phrase, words, extra, {})[0])
        return cost


def spoken_confidence(hypothesis: Hypothesis) -> float:
    """How sure a recognizer is of an utterance: the geometric mean over its words, or tokens; 1 where it does not say."""
    known = [word.confidence for word in hypothesis.words] or hypothesis.token_confidences
    return math.exp(sum(math.log(max(p, 1e-6)) for p in known) / len(known)) if known else 1.0


def _variant(template: int, parts: tuple[str | Slot, ...]) -> _Variant:
    own: list[str | Slot] = []
    for part in parts:
        own += [part] if isinstance(part, Slot) else _words(part)
    weight = sum(_WORD if isinstance(part, Slot) else _missing(part) for part in own)
    return _Variant(template, tuple(own), max(1.0, weight / 2), tuple(part for part in own if isinstance(part, str)))


def _words(text: str) -> list[str]:
    return normalize("librispeech", text).lower().split()


def _missing(word: str) -> float:
    return _SMALL if word in _LITTLE else _WORD


def _extra(word: str) -> float:
    return _WORD if word in _NEGATIONS else _SMALL if word in _LITTLE else _EXTRA


@functools.lru_cache(maxsize=65536)
def _distance(word: str, heard: str) -> float:
    """0 for the same word to 1, or infinity where they are too different for the one to be the other misheard."""
    like = Levenshtein.normalized_similarity(word, heard)
    return 1 - like if like >= _NEARLY else math.inf
