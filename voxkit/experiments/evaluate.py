"""Scoring hypotheses against references: rates with intervals, tables, tests between two systems, a report, a row of a CSV, a record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxkit import files
from voxkit.checkpoint.runs import find_in_run
from voxkit.eval.biasing import biasing
from voxkit.eval.boundaries import BoundaryResult, boundary_scores
from voxkit.eval.calibration import Calibration, measured
from voxkit.eval.normalize import normalization
from voxkit.eval.report import write_report
from voxkit.eval.significance import TestResult, mapsswe, permutation_test
from voxkit.eval.table import interval_cell, per_duration, per_group
from voxkit.eval.texts import Texts, read_texts
from voxkit.eval.wer import WerResult, score
from voxkit.experiments import records
from voxkit.experiments.commands import CommandScores, command_scores
from voxkit.text.intents import CONFIDENCE
from voxkit.text.phrases import read_phrases

WHERE = "beside what score writes: REPORT_score.json for --report REPORT.html, NAME_score.json for --csv, or what --record says"
_INPUTS = {"ref": "references", "hyp": "hypotheses", "against": "hypotheses (--against)", "phrases": "phrases", "condition": "condition",
           "commands": "pack (--commands)"}


@dataclass(frozen=True)
class ScoreJob:
    """Attributes:
    ref: references: lhotse cuts, JSON lines, or lines of id<TAB>text; hyp: hypotheses, exp/NAME/... is in the newest run of that name.
    against: hypotheses of another system.
    normalize: text rule on both sides; missing: what a reference without hypothesis is, "error" or "empty".
    phrases: file of phrases whose recall is counted.
    commands: pack whose intents and slots are scored besides; command_confidence: below which nothing is answered.
    bootstrap: what the interval resamples, "speaker" or "utterance"; samples: of bootstrap and permutation.
    per: further tables, of "speaker", "duration", "condition"; condition: a field of the cuts, or a file of id<TAB>condition.
    name: of the run in tables, CSV and report; empty: the hypothesis file's.
    report: HTML page to write, with the curves of training runs or PNG files (curves) and the worst utterances (worst).
    csv: table to append a row to; record: file of the record, None: beside report or csv, or none.
    """

    ref: str
    hyp: str
    against: str | None = None
    normalize: str = "none"
    missing: str = "error"
    phrases: str | None = None
    commands: str | None = None
    command_confidence: float = CONFIDENCE
    bootstrap: str = "speaker"
    samples: int = 10_000
    per: tuple[str, ...] = ()
    condition: str | None = None
    name: str = ""
    report: str | None = None
    curves: tuple[str, ...] = ()
    worst: int = 20
    csv: str | None = None
    record: str | None = None

    @property
    def record_path(self) -> Path | None:
        """Where the record goes; None where nothing else is written. Never the name of a decoding's record, which may lie there too."""
        if self.record:
            return Path(self.record)
        if self.report:
            return Path(self.report).with_name(f"{Path(self.report).stem}_score.json")
        return Path(self.csv).parent / f"{files.file_name(self.name)}_score.json" if self.csv else None


@dataclass
class Evaluation:
    """Attributes:
    words, characters: results in these units.
    shown: the row of the table; row: that of the CSV.
    resampled: what the interval is over, "speakers" or "utterances".
    tables: rows of each further table, by what it goes by.
    quality, times: of the words' confidences and times, None where hypotheses or references have none.
    phrases: rows about the phrase list; commands: intents and slots of a pack, None where there is none.
    other, tests: the other system's result, and what tells the two apart; comparison: the same as rows.
    report: the page that was written.
    record: of it all, None where none is kept.
    """

    words: WerResult
    characters: WerResult
    shown: dict[str, Any]
    row: dict[str, Any]
    resampled: str
    tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    quality: Calibration | None = None
    times: BoundaryResult | None = None
    phrases: list[dict[str, object]] = field(default_factory=list)
    commands: CommandScores | None = None
    other: WerResult | None = None
    tests: dict[str, TestResult] = field(default_factory=dict)
    comparison: list[dict[str, object]] = field(default_factory=list)
    report: str | None = None
    record: records.Record | None = None


def evaluate(job: ScoreJob) -> Evaluation:
    """Score, and write what the job says.

    Raises:
        ValueError: a file that is not there or cannot be read, ids that do not match, options that say nothing without others.
    """
    if "condition" in job.per and not job.condition:
        raise ValueError("--per condition does not say what a condition is: give --condition too, a field of the cuts or a file of "
                         "id<TAB>condition, or omit condition")
    files_of: dict[str, Any] = {key: str(find_in_run(path)) for key in ("ref", "hyp", "against") if (path := getattr(job, key))}
    job = replace(job, **files_of, name=job.name or Path(files_of["hyp"]).stem)
    references, hypotheses = read_texts(job.ref), read_texts(job.hyp)
    against = read_texts(job.against).texts if job.against else None
    conditions = _conditions(job.condition, references) if job.condition else {}
    curves = curve_files(job.curves) if job.report else []
    how = {"normalize": job.normalize, "missing": job.missing}
    words = score(references.texts, hypotheses.texts, **how)
    characters = score(references.texts, hypotheses.texts, unit="char", **how)
    groups = references.speakers if job.bootstrap == "speaker" and len(set(references.speakers.values())) > 1 else None
    interval = words.interval(groups, samples=job.samples)
    low, high = (f"{100 * bound:.2f}" for bound in interval) if interval else ("", "")
    row = {"name": job.name, **words.row(), "CER": f"{100 * characters.rate:.2f}", "low": low, "high": high}
    shown = {"name": job.name, "WER": row["WER"], "95 %": interval_cell(interval), "CER": row["CER"],
             **{key: row[key] for key in ("SER", "sub", "del", "ins", "words", "utterances")}}
    found = Evaluation(words, characters, shown, row, "speakers" if groups else "utterances", report=job.report)
    durations = references.durations or hypotheses.durations
    tables = {"speaker": per_group(words, references.speakers, "speaker"), "duration": per_duration(words, durations),
              "condition": per_group(words, conditions, "condition")}
    found.tables = {by: rows for by, rows in tables.items() if by in job.per}
    found.quality, found.times = _confidences(references, hypotheses, job.normalize)
    if job.phrases:
        found.phrases.append(_biasing(words, job.phrases, job.normalize, job.name))
    if job.commands:
        found.commands = command_scores(job.commands, references, hypotheses, job.command_confidence)
    if against is not None:
        found.other = other = score(references.texts, against, **how)
        found.tests = {"MAPSSWE": mapsswe(words, other), "permutation": permutation_test(words, other, groups, samples=job.samples)}
        found.comparison = [{"against": Path(str(job.against)).stem, "its WER": f"{100 * other.rate:.2f}", "test": key,
                             "difference": f"{100 * t.difference:+.2f}", "p": f"{t.p:.4f}"} for key, t in found.tests.items()]
        if job.phrases:
            found.phrases.append(_biasing(other, job.phrases, job.normalize, Path(str(job.against)).stem))
    if path := job.record_path:
        found.record = _record(job, path, found, curves)
    _write(job, found, references, conditions, durations)
    return found


def evaluate_again(path: str, *, report: str | None = None, csv: str | None = None,
                   record: str | None = None) -> tuple[records.Record, Evaluation, list[str]]:
    """Repeat a scoring from its record → the record, what came now, and what differs; what it writes goes to again/ beside the record,
    unless it is said where.

    Raises:
        ValueError: the record is none, or would be overwritten; an input is not there any more, or has changed.
    """
    known = records.read_record(path, "score", WHERE)
    job, out = records.from_json(ScoreJob, known.job), known.again_folder(None)
    target = Path(record or out / known.path.name)
    if target.resolve() == known.path.resolve():
        raise ValueError(f"--record {target}: the record itself would be overwritten; give another file")
    found: dict[str, Any] = {key: known.located(key, what) for key, what in _INPUTS.items() if key in known.inputs}
    curves = [Path(known.located(key, "curves")) for key in known.inputs if key.startswith("curve ")]
    found |= {"report": report or (str(out / job.report) if job.report else None), "csv": csv or (str(out / job.csv) if job.csv else None)}
    now = evaluate(replace(job, **found, record=str(target),
                           curves=tuple(str(file if file.suffix == ".png" else file.parent) for file in curves)))
    assert now.record is not None
    return known, now, records.differences(known.result, now.record.result)


def curve_files(sources: tuple[str, ...]) -> list[Path]:
    """What curves are drawn of: PNG files, and of a training run its metrics.

    Raises:
        ValueError: there is no such run.
    """
    from voxkit.plot import find_run

    return [Path(s) if s.endswith(".png") else find_run(s) / "metrics.json" for s in sources]


def _record(job: ScoreJob, path: Path, found: Evaluation, curves: list[Path]) -> records.Record:
    inputs = {key: records.stamp(file, path) for key in _INPUTS
              if (file := getattr(job, key)) and (key not in ("condition", "commands") or Path(file).is_file())}
    inputs |= {f"curve {i}": records.stamp(file, path) for i, file in enumerate(curves, 1)}
    kept = replace(job, report=Path(job.report).name if job.report else None, csv=Path(job.csv).name if job.csv else None, record=None)
    return records.Record("score", records.as_json(kept), inputs, records.made_by("numpy"),
                          {**found.row, "tests": found.comparison, "phrases": found.phrases,
                           **({"commands": found.commands.result.row()} if found.commands else {})}, path)


def _write(job: ScoreJob, found: Evaluation, references: Texts, conditions: Mapping[str, str], durations: Mapping[str, float]) -> None:
    if job.csv:
        files.append_csv(job.csv, {"date": time.strftime("%Y-%m-%d %H:%M:%S"), "ref": job.ref, "normalize": job.normalize, **found.row,
                                   "record": job.record_path})
    if job.report:
        with tempfile.TemporaryDirectory() as folder:
            write_report(job.report, found.words, title=job.name, summary=[found.shown], speakers=references.speakers,
                         conditions=conditions, durations=durations, audio=references.audio, comparison=found.comparison,
                         worst=job.worst, calibrated={"word confidences": found.quality} if found.quality else None,
                         curves=_drawn(job.curves, folder))
    if found.record:
        found.record.write()


def _biasing(result: WerResult, path: str, normalize: str, name: str) -> dict[str, object]:
    """One row about a phrase list."""
    rule = normalization(normalize)
    found = biasing(result, [rule(phrase) for phrase in read_phrases(path)])
    return {"name": name, "said": found.said, "found": found.found, "recall": f"{100 * found.recall:.1f}", "false": found.false,
            "WER without": f"{100 * found.others.rate:.2f}" if found.others else "", "WER": f"{100 * result.rate:.2f}"}


def _conditions(by: str, references: Texts) -> dict[str, str]:
    """id → condition, from a field or a file."""
    if Path(by).is_file():
        return read_texts(by).texts
    found = {id: str(fields[by]) for id, fields in references.custom.items() if by in fields}
    if not found:
        there = sorted({key for fields in references.custom.values() for key in fields})
        raise ValueError(f"--condition {by}: no such file, and no cut has such a field; fields there are: {', '.join(there) or 'none'}")
    return found


def _confidences(references: Texts, hypotheses: Texts, normalize: str) -> tuple[Calibration | None, BoundaryResult | None]:
    """What the words' confidences and times are worth, where hypotheses and references have them."""
    words = {id: found for id, found in hypotheses.words.items() if id in references.texts}
    if not words:
        return None, None
    timed = [id for id in references.words if id in hypotheses.texts]
    times = boundary_scores([references.words[id] for id in timed], [words.get(id, []) for id in timed]) if timed else None
    return measured(references.texts, words, normalization(normalize)), times


def _drawn(sources: tuple[str, ...], folder: str) -> list[Path]:
    """PNG files: those given, and one drawn of all runs given."""
    pictures = [Path(s) for s in sources if s.endswith(".png")]
    runs = [s for s in sources if not s.endswith(".png")]
    if runs:
        from voxkit.plot import plot_curves

        pictures.append(plot_curves(runs, Path(folder) / "curves.png"))
    return pictures
