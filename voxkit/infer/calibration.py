"""Confidences and word times that can be trusted: what is fitted on a dev set and kept with a run.

`decode/calibration.json` of a run holds a temperature for every search, with the calibration error before and after, and the shifts of
word times, where the dev set's times are known. `voxkit decode --calibrate` writes it; decode, align and transcribe use it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from voxkit import config as configuration
from voxkit.align.words import WordTiming, fit_word_timing
from voxkit.eval.boundaries import boundary_scores
from voxkit.eval.calibration import Calibration, apply_temperature, calibration, fit_temperature, right_words
from voxkit.hypothesis import Hypothesis, Word

NAME = "calibration.json"


def read_calibration(directory: str | Path) -> dict[str, Any]:
    """What was fitted: `{"timing": {...}, "methods": {label: {"temperature", ...}}}`; empty where nothing was."""
    path = Path(directory) / NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_calibration(directory: str | Path, content: Mapping[str, Any]) -> Path:
    """Write it, atomically."""
    path = Path(directory) / NAME
    configuration.write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def timing_of(content: Mapping[str, Any]) -> WordTiming | None:
    """The fitted shifts."""
    found = content.get("timing")
    return WordTiming(found["start_shift"], found["end_shift"]) if found else None


def judged(references: Mapping[str, str], hypotheses: Mapping[str, Hypothesis], rule: Any = str) -> tuple[list[float], list[bool]]:
    """(confidence, whether it is right) of every word that has a confidence; `rule` is the text normalisation of single words.

    A rule that makes several words of one, or none, judges that word by its own spelling.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    for id, h in hypotheses.items():
        words = [rule(w.word) if len(rule(w.word).split()) == 1 else w.word for w in h.words]
        confidences += [w.confidence for w in h.words]
        correct += right_words(rule(references[id]).split(), words)
    return confidences, correct


def measured(references: Mapping[str, str], hypotheses: Mapping[str, Hypothesis], rule: Any = str) -> Calibration | None:
    """Calibration of a decoded set; None where it has no words."""
    confidences, correct = judged(references, hypotheses, rule)
    return calibration(confidences, correct) if confidences else None


def fit_confidence(references: Mapping[str, str], hypotheses: Mapping[str, Hypothesis], rule: Any = str) -> dict[str, float]:
    """Temperature from a dev set decoded with temperature 1, and the expected calibration error before and after.

    Raises:
        ValueError: no words, or all of them right (or wrong): no temperature can be told from that.
    """
    confidences, correct = judged(references, hypotheses, rule)
    if not confidences or len(set(correct)) < 2:
        raise ValueError(f"{len(confidences)} words of the calibration set are all {'right' if correct and correct[0] else 'wrong'}: "
                         "confidences cannot be calibrated on that; give a larger or harder set")
    temperature = fit_temperature(confidences, correct)
    after = calibration(apply_temperature(confidences, temperature), correct)
    return {"temperature": temperature, "ece_before": calibration(confidences, correct).error, "ece_after": after.error,
            "nce_after": after.nce, "words": len(correct)}


def fit_timing(found: Mapping[str, list[Word]], true: Mapping[str, list[Word]], collar: float = 0.05) -> dict[str, float]:
    """Shifts of word times from words aligned without any, and the boundary error (seconds) and F1 before and after."""
    ids = [id for id in found if id in true]
    fitted = fit_word_timing([found[id] for id in ids], [true[id] for id in ids])
    shifted = [[Word(w.word, w.start + fitted.start_shift, max(w.start + fitted.start_shift, w.end + fitted.end_shift), w.confidence)
                for w in found[id]] for id in ids]
    before = boundary_scores([true[id] for id in ids], [found[id] for id in ids], collar)
    after = boundary_scores([true[id] for id in ids], shifted, collar)
    return {**asdict(fitted), "error_before": before.error, "error_after": after.error, "f1_before": before.f1, "f1_after": after.f1,
            "words": after.words}


def true_words(cut: Any) -> list[Word] | None:
    """Word times of a cut that knows them (alignment "word" of its supervision, in the recording's time as lhotse has it), from the
    cut's beginning; None where it does not."""
    items = (cut.supervisions[0].alignment or {}).get("word")
    return [Word(i.symbol, i.start - cut.start, i.end - cut.start, 1.0) for i in items if i.symbol.strip()] if items else None
