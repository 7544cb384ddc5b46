"""Confidences and word times that can be trusted: what is fitted on a dev set and kept with a run.

`decode/calibration.json` of a run holds a temperature for every search, with the calibration error before and after, and what puts
word times right, where the dev set's times are known. `voxkit decode --calibrate` writes it; decode, align, transcribe and serve use it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from voxkit import files
from voxkit.align.timing import TokenTiming, WordTiming, word_groups
from voxkit.align.words import fit_word_timing, words_from_tokens
from voxkit.checkpoint.loading import decode_dir
from voxkit.eval.boundaries import BoundaryResult, boundary_scores
from voxkit.eval.calibration import apply_temperature, calibration, fit_temperature, judged
from voxkit.hypothesis import Hypothesis, Word
from voxkit.infer.alignment import Aligned

NAME = "calibration.json"
TIMINGS = {"ctc": "timing", "transducer": "timing_transducer"}  # head whose tokens spike → what was fitted for it
_FEWEST = 5  # words that are wrong: with one among hundreds a temperature makes everything certain
_FEWEST_TIMED = 10  # words with known times: fewer fit a shift for each token to chance


def calibration_of(checkpoint: Path) -> Path:
    """Where what was fitted for a run is kept, from the path of one of its checkpoints."""
    return decode_dir(checkpoint) / NAME


def read_calibration(path: str | Path) -> dict[str, Any]:
    """What was fitted: `{"timing": {...}, "methods": {label: {"temperature", ...}}}`, from the file or the directory it is in; empty where
    there is no such file.

    Raises:
        ValueError: the file holds something else.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        fitted = [(label, float(known["temperature"])) for label, known in content.get("methods", {}).items()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no calibration ({type(error).__name__}: {error}); "
                         "`voxkit decode RUN --calibrate SET` makes one") from error
    for label, temperature in fitted:
        if not 0 < temperature < math.inf:
            raise ValueError(f"{path}: the temperature of {label} is {temperature}, and must be above 0; "
                             "fit it again with `voxkit decode RUN --calibrate SET`")
    return content


def write_calibration(directory: str | Path, content: Mapping[str, Any]) -> Path:
    """Write it, atomically."""
    path = Path(directory) / NAME
    files.write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def timing_of(content: Mapping[str, Any], spikes: str = "ctc") -> TokenTiming | WordTiming | None:
    """The word timing that was fitted for where a head's tokens spike, ctc or transducer."""
    found = content.get(TIMINGS[spikes]) if spikes else None
    if not found:
        return None
    return TokenTiming(found["start"], found["end"]) if "start" in found else WordTiming(found["start_shift"], found["end_shift"])


def fit_confidence(references: Mapping[str, str], hypotheses: Mapping[str, Hypothesis], rule: Any = str) -> dict[str, float]:
    """Temperature from a dev set decoded with temperature 1, and the expected calibration error before and after.

    Raises:
        ValueError: fewer than five words that are right, or that are wrong: no temperature can be told from that.
    """
    confidences, correct = judged(references, {id: h.words for id, h in hypotheses.items()}, rule)
    right = sum(correct)
    wrong = len(correct) - right
    if min(right, wrong) < _FEWEST:
        raise ValueError(f"of {len(correct)} words of the calibration set {wrong} are wrong and {right} right, and it takes {_FEWEST} of "
                         "both; give a larger or harder set")
    temperature = fit_temperature(confidences, correct)
    after = calibration(apply_temperature(confidences, temperature), correct)
    return {"temperature": temperature, "ece_before": calibration(confidences, correct).error, "ece_after": after.error,
            "nce_after": after.nce, "words": len(correct)}


def fit_timing(recognizer: Any, aligned: Mapping[str, Aligned], true: Mapping[str, list[Word]], collar: float = 0.05) -> dict[str, Any]:
    """Word timing from utterances aligned with their texts and their true times; utterances of other words are left out.

    Returns:
        weights of a `TokenTiming`, and how far boundaries are off (seconds) and their F1, without it and with it. "held out": fitted on
        two thirds of the utterances and measured on the rest; the weights are fitted on all.

    Raises:
        ValueError: fewer than ten words with a known time: a shift for each token would be fitted to chance.
    """
    step = recognizer.model.seconds_per_frame
    vocabulary = recognizer.vocabulary
    examples = []
    for id, a in aligned.items():
        groups = word_groups(a.spans, vocabulary)
        if id in true and [word for word, _ in groups] == [w.word for w in true[id]]:
            examples.append(([group for _, group in groups], [(w.start, w.end) for w in true[id]], a.seconds, id))

    words = sum(len(e[1]) for e in examples)
    if words < _FEWEST_TIMED:
        raise ValueError(f"{words} words of the calibration set have known times and could be aligned, and it takes {_FEWEST_TIMED}; give "
                         "a larger set, or one whose cuts carry word alignments (`voxkit align --out-cuts`)")

    def measure(timing: Any, chosen: list[Any]) -> BoundaryResult:
        found = [words_from_tokens(aligned[e[3]].spans, vocabulary, step, timing=timing, duration=e[2]) for e in chosen]
        return boundary_scores([true[e[3]] for e in chosen], found, collar)

    fitted = TokenTiming.fit([e[:3] for e in examples], step)
    rest = examples[2::3]
    held = measure(TokenTiming.fit([e[:3] for i, e in enumerate(examples) if i % 3 != 2], step), rest) if len(examples) > 2 else None
    plain, shifted = measure(None, rest or examples), None
    found = [words_from_tokens(aligned[e[3]].spans, vocabulary, step, duration=e[2]) for e in examples]
    shift = fit_word_timing(found, [true[e[3]] for e in examples])
    shifted = measure(shift, rest or examples)
    return {**asdict(fitted), "error_plain": plain.error, "error_shifted": shifted.error, "f1_plain": plain.f1, "f1_shifted": shifted.f1,
            "error_held_out": held.error if held else None, "f1_held_out": held.f1 if held else None,
            "words": words}


def true_words(cut: Any) -> list[Word] | None:
    """Word times of a cut that knows them (alignment "word" of its supervision, in the recording's time as lhotse has it), from the
    cut's beginning; None where it does not."""
    items = (cut.supervisions[0].alignment or {}).get("word")
    return [Word(i.symbol, i.start - cut.start, i.end - cut.start, 1.0) for i in items if i.symbol.strip()] if items else None
