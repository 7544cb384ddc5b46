"""Which labels of two recognizers may be believed: where both say the same, first; what speech looks like, after that.

A confidence alone says little of short clips; that two models which err in different ways say the same says much.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from voxkit.text.normalize import normalize


@dataclass(frozen=True)
class Label:
    """What a recognizer says of an utterance: text, confidence in [0, 1], language as it names it, empty where it does not."""

    text: str
    confidence: float = 1.0
    language: str = ""


@dataclass(frozen=True)
class Filter:
    """Attributes:
    agreement: share of words on which both must agree; exact_below: of labels shorter than so many words, all.
    confidence: of the first recognizer, at least.
    compression: characters to their compressed bytes, at most: a text that repeats itself compresses well.
    words_per_second: least and most.
    language: that the recognizers must hear, where they say which; "": any.
    """

    agreement: float = 0.9
    exact_below: int = 4
    confidence: float = 0.0
    compression: float = 2.4
    words_per_second: tuple[float, float] = (0.3, 6.0)
    language: str = ""

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = [f"{name}: {getattr(self, name)} is not in [0, 1]" for name in ("agreement", "confidence")
                 if not 0 <= getattr(self, name) <= 1]
        if not 0 <= self.words_per_second[0] < self.words_per_second[1]:
            found.append(f"words_per_second: {list(self.words_per_second)} should be [low, high]")
        found += [f"{name}: {getattr(self, name)} is below {low}" for name, low in (("exact_below", 0), ("compression", 1))
                  if getattr(self, name) < low]
        return found


@dataclass(frozen=True)
class Verdict:
    """Whether a label is kept, why not ("": it is), and the figures that say so."""

    kept: bool
    reason: str
    scores: Mapping[str, float] = field(default_factory=dict)


def judge(first: Label, second: Label, seconds: float, rule: Filter = Filter()) -> Verdict:
    """Judge the first recognizer's label by the second's, the strictest filter first."""
    ours, theirs = _words(first.text), _words(second.text)
    agreed = agreement(ours, theirs)
    pace = len(ours) / seconds if seconds > 0 else 0.0
    squeezed = compression(first.text)
    scores = {"agreement": round(agreed, 4), "confidence": round(first.confidence, 4), "compression": round(squeezed, 3),
              "words_per_second": round(pace, 3)}
    least = 1.0 if len(ours) < rule.exact_below else rule.agreement
    heard = {label.language for label in (first, second) if label.language}
    low, high = rule.words_per_second
    reasons = (("no words", not ours), ("the recognizers disagree", agreed < least),
               ("another language", bool(rule.language and heard - {rule.language})),
               ("not confident", first.confidence < rule.confidence), ("it repeats itself", squeezed > rule.compression),
               ("too slow for speech", pace < low), ("too fast for speech", pace > high))
    reason = next((what for what, holds in reasons if holds), "")
    return Verdict(not reason, reason, scores)


def agreement(first: Sequence[str], second: Sequence[str]) -> float:
    """Share of the words of the longer that two have in common, in order: 1 minus edits by its length; 1 where both are empty."""
    longest = max(len(first), len(second))
    return 1 - Levenshtein.distance(first, second) / longest if longest else 1.0


def compression(text: str) -> float:
    """Bytes of a text to those that zlib makes of it."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def thresholds(judged: Sequence[tuple[Label, Label, float, str | None]], rule: Filter = Filter(),
               agreements: Sequence[float] = (1.0, 0.95, 0.9, 0.8, 0.6, 0.0), confidences: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95)
               ) -> list[dict[str, object]]:
    """What each threshold keeps, and where references are known how wrong its labels are.

    Args:
        judged: (first label, second label, seconds, reference or None).
        rule: the other filters; what keeps by confidence asks for no agreement.
    """
    rows: list[dict[str, object]] = []
    variants = [(f"agreement >= {a:g}", Filter(a, 0, 0.0, rule.compression, rule.words_per_second, rule.language)) for a in agreements]
    variants.insert(1, (f"agreement >= {rule.agreement:g}, exact below {rule.exact_below} words", rule))
    variants += [(f"confidence >= {c:g} alone", Filter(0.0, 0, c, rule.compression, rule.words_per_second, rule.language))
                 for c in confidences]
    for name, one in variants:
        kept = [(first, reference) for first, second, seconds, reference in judged if judge(first, second, seconds, one).kept]
        known = [(_words(first.text), _words(reference)) for first, reference in kept if reference is not None]
        words = sum(len(reference) for _, reference in known)
        wrong = sum(Levenshtein.distance(label, reference) for label, reference in known)
        rows.append({"filter": name, "kept": len(kept), "yield %": f"{100 * len(kept) / len(judged):.1f}" if judged else "",
                     "label WER %": f"{100 * wrong / words:.2f}" if words else ""})
    return rows


def _words(text: str) -> list[str]:
    return normalize("librispeech", text).split()
