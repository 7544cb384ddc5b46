"""Word, character and sentence error rates with the alignments behind them.

    result = score({"u1": "heal me now"}, {"u1": "heal now"})
    result.rate, result.substitutions, result.deletions, result.insertions, result.utterances[0].pairs()

jiwer aligns and counts; texts of any length need memory in proportion to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Callable, Iterable, Mapping, Sequence

from voxkit.eval.intervals import bootstrap_interval
from voxkit.eval.normalize import normalization

UNITS = ("word", "char")


@dataclass(frozen=True)
class AlignedUtterance:
    """One reference against one hypothesis.

    Attributes:
        id: utterance id.
        reference, hypothesis: units (words, or characters) after normalization.
        opcodes: (kind, i0, i1, j0, j1), kind one of equal, substitute, delete, insert: reference[i0:i1] became hypothesis[j0:j1].
    """

    id: str
    reference: list[str]
    hypothesis: list[str]
    opcodes: list[tuple[str, int, int, int, int]] = field(repr=False)

    def _count(self, kind: str) -> int:
        return sum(max(i1 - i0, j1 - j0) for k, i0, i1, j0, j1 in self.opcodes if k == kind)

    @property
    def hits(self) -> int:
        """Units that are right."""
        return self._count("equal")

    @property
    def substitutions(self) -> int:
        """Units exchanged for others."""
        return self._count("substitute")

    @property
    def deletions(self) -> int:
        """Reference units that the hypothesis lacks."""
        return self._count("delete")

    @property
    def insertions(self) -> int:
        """Hypothesis units that nobody said."""
        return self._count("insert")

    @property
    def errors(self) -> int:
        """Substitutions + deletions + insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def words(self) -> int:
        """Reference units."""
        return len(self.reference)

    def pairs(self) -> list[tuple[str | None, str | None]]:
        """The alignment, unit by unit: (reference, hypothesis), None where one of them has nothing."""
        out: list[tuple[str | None, str | None]] = []
        for kind, i0, i1, j0, j1 in self.opcodes:
            if kind in ("equal", "substitute"):
                out += zip(self.reference[i0:i1], self.hypothesis[j0:j1])
            elif kind == "delete":
                out += [(unit, None) for unit in self.reference[i0:i1]]
            else:
                out += [(None, unit) for unit in self.hypothesis[j0:j1]]
        return out


@dataclass(frozen=True)
class WerResult:
    """Totals over a test set; `rate` is a fraction (0.05 = 5 %)."""

    utterances: list[AlignedUtterance]
    unit: str = "word"

    def _sum(self, name: str) -> int:
        return sum(getattr(u, name) for u in self.utterances)

    @property
    def hits(self) -> int:
        """Units that are right."""
        return self._sum("hits")

    @property
    def substitutions(self) -> int:
        """Units exchanged for others."""
        return self._sum("substitutions")

    @property
    def deletions(self) -> int:
        """Reference units not recognized."""
        return self._sum("deletions")

    @property
    def insertions(self) -> int:
        """Units recognized that nobody said."""
        return self._sum("insertions")

    @property
    def errors(self) -> int:
        """Substitutions + deletions + insertions."""
        return self._sum("errors")

    @property
    def words(self) -> int:
        """Reference units (words or characters)."""
        return self._sum("words")

    @property
    def rate(self) -> float:
        """Errors over reference units; with nothing to recognize 0 if nothing was recognized, else infinite."""
        return _ratio(self.errors, self.words)

    @property
    def ser(self) -> float:
        """Sentence error rate: the share of utterances with any error."""
        return sum(u.errors > 0 for u in self.utterances) / len(self.utterances)

    def interval(self, groups: Mapping[str, str] | None = None, *, confidence: float = 0.95,
                 samples: int = 10_000, seed: int = 0) -> tuple[float, float] | None:
        """Bootstrap confidence interval of `rate`, None where there is too little to resample; `groups` id → speaker resamples
        speakers, None utterances."""
        names = None if groups is None else [groups.get(u.id, u.id) for u in self.utterances]
        return bootstrap_interval([u.errors for u in self.utterances], [u.words for u in self.utterances], names,
                                  confidence=confidence, samples=samples, seed=seed)

    def split(self, keys: Mapping[str, str]) -> dict[str, WerResult]:
        """The result per key: id → speaker, condition, duration class ... ; keys in sorted order."""
        parts: dict[str, list[AlignedUtterance]] = {}
        for u in self.utterances:
            parts.setdefault(keys.get(u.id, "unknown"), []).append(u)
        return {key: WerResult(parts[key], self.unit) for key in sorted(parts)}

    def confusions(self) -> Counter[tuple[str, str]]:
        """How often which reference unit was taken for which other; '' where one side has nothing."""
        return Counter((r or "", h or "") for u in self.utterances for r, h in u.pairs() if r != h)

    def row(self, **more: object) -> dict[str, object]:
        """One table row, rates in percent."""
        return {**more, ("WER" if self.unit == "word" else "CER"): f"{100 * self.rate:.2f}", "SER": f"{100 * self.ser:.2f}",
                "sub": self.substitutions, "del": self.deletions, "ins": self.insertions, "errors": self.errors,
                f"{self.unit}s": self.words, "utterances": len(self.utterances)}


def _ratio(errors: int, words: int) -> float:
    return errors / words if words else (float("inf") if errors else 0.0)


def align(id: str, reference: Sequence[str], hypothesis: Sequence[str]) -> AlignedUtterance:
    """Align two sequences of units with the fewest edits."""
    return _aligned([id], [list(reference)], [list(hypothesis)])[0]


def edit_errors(reference: Sequence[object], hypothesis: Sequence[object]) -> int:
    """Edits between two sequences of units of one type (words, token ids), told apart by how they are written."""
    return align("", [str(unit) for unit in reference], [str(unit) for unit in hypothesis]).errors


def _aligned(ids: Sequence[str], references: list[list[str]], hypotheses: list[list[str]]) -> list[AlignedUtterance]:
    import jiwer

    def as_units(texts: list[list[str]]) -> list[list[str]]:  # jiwer's own transforms split and strip what is split already
        return texts

    found = jiwer.process_words(references, hypotheses, as_units, as_units)  # type: ignore[arg-type]
    return [AlignedUtterance(id, reference, hypothesis,
                             [(c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx) for c in chunks])
            for id, reference, hypothesis, chunks in zip(ids, references, hypotheses, found.alignments)]


def score(references: Mapping[str, str], hypotheses: Mapping[str, str], *, unit: str = "word",
          normalize: str | Callable[[str], str] = "none", missing: str = "error") -> WerResult:
    """Score a test set.

    Args:
        references, hypotheses: id → text.
        unit: "word" (WER) or "char" (CER: the characters of the text with single blanks, blanks counted, as jiwer does).
        normalize: name of a rule of voxkit.eval.normalize, or a function; applied to both sides.
        missing: what a reference without hypothesis is: "error" (ValueError) or "empty" (all words deleted).

    Raises:
        ValueError: no references, ids that do not match, an unknown unit or rule.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r} is none of {', '.join(UNITS)}")
    if missing not in ("error", "empty"):
        raise ValueError(f"missing {missing!r} is none of error, empty")
    if not references:
        raise ValueError("the test set is empty: there is no reference to score against")
    _check_ids(references, hypotheses, missing)
    rule = normalization(normalize) if isinstance(normalize, str) else normalize

    def units(text: str) -> list[str]:
        words = rule(text).split()
        return words if unit == "word" else list(" ".join(words))

    return WerResult(_aligned(list(references), [units(text) for text in references.values()],
                              [units(hypotheses.get(id, "")) for id in references]), unit)


def wer(references: Iterable[str], hypotheses: Iterable[str]) -> float:
    """Word error rate (fraction) of two lists of texts in the same order, as jiwer.wer."""
    references, hypotheses = list(references), list(hypotheses)
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses: there must be one for each")
    ids = [str(i) for i in range(len(references))]
    return score(dict(zip(ids, references)), dict(zip(ids, hypotheses))).rate


def _check_ids(references: Mapping[str, str], hypotheses: Mapping[str, str], missing: str) -> None:
    without = [id for id in references if id not in hypotheses]
    if without and (missing == "error" or len(without) == len(references)):
        raise ValueError(f"{len(without)} of {len(references)} references have no hypothesis: {', '.join(without[:3])}"
                         f"{' ...' if len(without) > 3 else ''}; are both of the same test set? (--missing empty counts them as deleted)")
    extra = [id for id in hypotheses if id not in references]
    if extra:
        raise ValueError(f"{len(extra)} hypotheses have no reference: {', '.join(extra[:3])}"
                         f"{' ...' if len(extra) > 3 else ''}; are both of the same test set?")
