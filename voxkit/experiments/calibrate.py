"""Fitting confidences and word times of searches on a held-out set; kept beside what was decoded, for later calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxkit.eval.table import format_table
from voxkit.experiments.search import Say, Search, silent
from voxkit.infer.alignment import align_cuts
from voxkit.infer.calibration import TIMINGS, fit_confidence, fit_timing, read_calibration, true_words, write_calibration
from voxkit.infer.decoding import decode_by_searches
from voxkit.search.heads import NAMES


def calibrate(search: Search, methods: Sequence[str], cuts: Any, data: Any, out: Path, rule: Any, name: str, say: Say = silent) -> None:
    """Fit on the cuts of a set, and write calibration.json in `out`; what is there for other searches stays.

    Args:
        data: the run's DataConfig; rule: text normalization; name: of the set.
    """
    recognizer, content = search.recognizer, read_calibration(out)
    true = {c.id: words for c in cuts if (words := true_words(c))}
    heard = {c.id for c in cuts if c.has_recording}
    heads = [head for head in TIMINGS if getattr(recognizer.model.heads, head) is not None]
    if true and not (heads and true.keys() <= heard):
        say("word times are left as they are: fitting them takes a CTC head or a transducer, and audio (CIF's times need no fitting)")
    elif true:
        for head in heads:
            _fit_times(search, cuts.filter(lambda c: c.id in true), true, content, name, say, head)
    rows = []
    everything = decode_by_searches(recognizer, cuts, [search.of(method, temperature=1.0) for method in methods], data, name)
    for method, decoded in zip(methods, everything):
        label = search.label(method)
        try:
            fitted: dict[str, Any] = {**fit_confidence(decoded.references, decoded.hypotheses, rule), "set": name,
                                      "settings": search.fingerprint(method)}
        except ValueError as error:
            say(f"confidences of {label} stay as they are: {error}")
            content.get("methods", {}).pop(label, None)
            continue
        content.setdefault("methods", {})[label] = fitted
        rows.append({"method": label, "temperature": f"{fitted['temperature']:.2f}", "ECE before": f"{100 * fitted['ece_before']:.2f}",
                     "ECE after": f"{100 * fitted['ece_after']:.2f}", "words": fitted["words"]})
    write_calibration(out, content)
    if rows:
        say(format_table(rows, title=f"confidences fitted on {name}"))


def _fit_times(search: Search, cuts: Any, true: dict[str, Any], content: dict[str, Any], name: str, say: Say, head: str) -> None:
    """Fit word times for where the tokens of a head spike and say how good they are, or why they cannot be fitted."""
    try:
        t: dict[str, Any] = {**fit_timing(search.recognizer, align_cuts(search.recognizer, cuts, head), true), "set": name}
    except ValueError as error:
        say(f"word times stay as they are: {error}")
        return
    content[TIMINGS[head]] = t
    ways = (("frames as they are", "plain"), ("one shift for all words", "shifted"), ("a shift for each token, held out", "held_out"))
    say(format_table([{"word times": what, "ms off": f"{1000 * t[f'error_{key}']:.1f}", "F1 at 50 ms": f"{100 * t[f'f1_{key}']:.1f}"}
                      for what, key in ways if t[f"error_{key}"] is not None],
                     title=f"word times by {NAMES[head]}, fitted on {name} ({t['words']} words)") + "\n")
