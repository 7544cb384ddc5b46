"""What is measured of a decoded set, as columns of a table."""

from __future__ import annotations

from collections import Counter
from math import ceil
from statistics import median
from typing import Any

import torch

from voxkit.data.reader import load_samples
from voxkit.eval.boundaries import boundary_scores
from voxkit.eval.calibration import measured
from voxkit.eval.delay import word_delays
from voxkit.eval.table import interval_cell
from voxkit.eval.wer import edit_errors, score
from voxkit.experiments.search import Say, silent
from voxkit.hypothesis import Hypothesis
from voxkit.infer.calibration import true_words
from voxkit.infer.decoding import Decoded, measure_latency
from voxkit.infer.recognizer import Recognizer
from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import Vocabulary


def scores(found: Decoded, cuts: Any, normalize: str) -> dict[str, Any]:
    """WER with its interval (over speakers where there are several), and the counts."""
    result = score(found.references, found.texts, normalize=normalize)
    speakers = {c.id: c.supervisions[0].speaker or c.id for c in cuts}
    interval = result.interval(speakers if len(set(speakers.values())) > 1 else None)
    row = result.row()
    return {"WER": row.pop("WER"), "95 %": interval_cell(interval), **row}


def token_errors(found: Decoded, vocabulary: Vocabulary) -> dict[str, str]:
    """Token error rate and real-time factor."""
    return {"TER": f"{100 * token_error_rate(found.references, found.hypotheses, vocabulary):.2f}", "RTF": f"{found.rtf:.3f}"}


def stopped(found: Decoded) -> dict[str, str]:
    """Share of the utterances of which a language model said what nobody said, by reason; {} where there are none."""
    reasons = Counter(h.stopped for h in found.hypotheses.values() if h.stopped)
    if not reasons:
        return {}
    each = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return {"stopped": f"{100 * reasons.total() / len(found.hypotheses):.1f} % ({each})"}


def token_error_rate(references: dict[str, str], found: dict[str, Hypothesis], vocabulary: Vocabulary) -> float:
    """Edit distance in tokens over the tokens of the references: 1 - token accuracy."""
    tokens = {id: vocabulary.encode(text) for id, text in references.items()}
    return sum(edit_errors(tokens[id], found[id].tokens) for id in tokens) / max(1, sum(map(len, tokens.values())))


def word_scores(found: Decoded, cuts: Any, rule: Any, calibrated: bool) -> dict[str, Any]:
    """Expected calibration error of the confidences (in brackets where no temperature was fitted), error of the word times where known."""
    row: dict[str, Any] = {}
    quality = measured(found.references, {id: h.words for id, h in found.hypotheses.items()}, rule)
    if quality is not None:
        row["ECE"] = f"{100 * quality.error:.2f}" if calibrated else f"({100 * quality.error:.2f})"
    return row | boundary_columns(cuts, found.hypotheses)


def boundary_columns(cuts: Any, found: dict[str, Hypothesis]) -> dict[str, str]:
    """Of the words that are right: mean, median and signed errors of their times in ms, F1 of boundaries within 50 ms; {} where no times
    are known."""
    true = {c.id: words for c in cuts if c.id in found and (words := true_words(c))}
    if not true:
        return {}
    times = boundary_scores(list(true.values()), [found[id].words for id in true])
    return {"ms off": f"{1000 * times.error:.1f}", "ms median": f"{1000 * times.median:.1f}",
            "start bias": f"{1000 * times.start_bias:+.1f}", "end bias": f"{1000 * times.end_bias:+.1f}",
            "F1 50 ms": f"{100 * times.f1:.1f}"}


def delay_columns(cuts: Any, changes: dict[str, list[tuple[float, str]]]) -> dict[str, str]:
    """Of the words of a streamed set that are right: milliseconds of audio from a word's end until it was said for good, median and 95th
    percentile; {} where no word times are known."""
    delays = sorted(1000 * d for c in cuts if c.id in changes and (words := true_words(c)) for d in word_delays(words, changes[c.id]))
    if not delays:
        return {}
    return {"said ms": f"{median(delays):.0f}", "said 95 % ms": f"{delays[ceil(0.95 * (len(delays) - 1))]:.0f}"}


def latency(count: int, recognizer: Recognizer, cuts: Any, options: SearchOptions, say: Say = silent) -> dict[str, Any]:
    """Latency of `count` utterances of middling length, one at a time; {} for none."""
    if not count:
        return {}
    if not all(c.has_recording for c in cuts):
        say("latency is not measured: it takes audio, and the set holds features")
        return {}
    chosen = sorted(cuts, key=lambda c: c.duration)[len(cuts) // 2:][:count]
    found = measure_latency(recognizer, (torch.from_numpy(load_samples(c)) for c in chosen), options)
    if found is None:
        return {}
    return {"first ms": f"{found.first:.0f}", "end ms": f"{found.end:.0f}", "end 95 % ms": f"{found.end_95:.0f}"}
