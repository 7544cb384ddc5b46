"""`voxkit score`: error rates of a hypothesis file against references, with intervals, tables and tests between two runs. What it writes
has a record beside it, from which one command repeats it."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

WHERE = "beside what score writes: REPORT_score.json for --report REPORT.html, NAME_score.json for --csv, or what --record says"
_FILES = ("ref", "hyp", "against", "phrases")
_WRITTEN = ("report", "csv", "record")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Register the command."""
    from voxkit.cli.record import add_again_argument

    p = subparsers.add_parser("score", help="WER / CER / SER with confidence intervals, significance tests and a report",
                              description=__doc__)
    add_again_argument(p, "a scoring", "beside what it wrote")
    p.add_argument("--ref", help="references: lhotse cuts, JSON lines, or lines of id<TAB>text")
    p.add_argument("--hyp", help="hypotheses: JSON lines, or lines of id<TAB>text; exp/NAME/... is in the newest run of that name")
    p.add_argument("--against", help="hypotheses of another system: MAPSSWE and permutation test between the two")
    p.add_argument("--normalise", default="none", help="text rule on both sides: none, lower, librispeech, whisper-english")
    p.add_argument("--phrases", metavar="FILE", help="recall of these phrases, one a line, and the WER of utterances without any")
    p.add_argument("--missing", default="error", choices=["error", "empty"], help="a reference without hypothesis: stop, or all deleted")
    p.add_argument("--bootstrap", default="speaker", choices=["speaker", "utterance"], help="what the interval resamples")
    p.add_argument("--samples", type=int, default=10_000, help="bootstrap and permutation samples")
    p.add_argument("--per", nargs="*", default=[], choices=["speaker", "duration", "condition"], help="further tables")
    p.add_argument("--condition", help="what --per condition goes by: a field of the cuts (custom fields, language, gender), or a file of "
                                       "id<TAB>condition")
    p.add_argument("--errors", type=int, default=0, metavar="N", help="print the N worst utterances and confusions")
    p.add_argument("--csv", help="append a row to this results.csv")
    p.add_argument("--name", default="", help="name of the run in tables, CSV and report; by default the hypothesis file's")
    p.add_argument("--report", metavar="HTML", help="write one self-contained HTML page")
    p.add_argument("--curves", nargs="+", default=[], metavar="RUN", help="training runs whose curves the report shows, or PNG files")
    p.add_argument("--record", metavar="JSON", help="write the record here; by default beside --report, or beside --csv, or none")
    p.add_argument("--worst", type=int, default=20, help="utterances in the report, with audio")
    p.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Score, or repeat it."""
    from voxkit.cli import record

    if args.again:
        record.refuse_besides(args, add_parser, "score", _WRITTEN)
        known = record.read(args.again, "score", WHERE)
        now = score_files(_arguments(known, args))
        return record.compare(known, known["result"], now, f"WER {now['WER']}")
    if not args.ref or not args.hyp:
        raise ValueError("give --ref and --hyp, or --again with the record of a scoring")
    score_files(args)
    return 0


def score_files(args: argparse.Namespace) -> dict[str, Any]:
    """Score, print, append, write → what came of it."""
    from voxkit.checkpoint.runs import find_in_run
    from voxkit.eval.significance import mapsswe, permutation_test
    from voxkit.eval.table import format_table, interval_cell, per_duration, per_group
    from voxkit.eval.texts import read_texts
    from voxkit.eval.wer import score
    from voxkit.files import append_csv

    if "condition" in args.per and not args.condition:
        raise ValueError("--per condition does not say what a condition is: give --condition too, a field of the cuts or a file of "
                         "id<TAB>condition, or leave condition away")
    for key in ("ref", "hyp", "against"):
        if getattr(args, key):
            setattr(args, key, str(find_in_run(getattr(args, key))))
    name = args.name or Path(args.hyp).stem
    references, hypotheses, comparison, bias = read_texts(args.ref), read_texts(args.hyp), [], []
    if args.report:
        _curve_files(args.curves)  # a run that is not there is named before anything is printed
    against = read_texts(args.against).texts if args.against else {}
    conditions = _conditions(args.condition, references) if args.condition else {}
    how = {"normalise": args.normalise, "missing": args.missing}
    words = score(references.texts, hypotheses.texts, **how)
    if args.phrases:
        bias = [_biasing(words, args.phrases, args.normalise, name)]
        if args.against:
            bias.append(_biasing(score(references.texts, against, **how), args.phrases, args.normalise, Path(args.against).stem))
    characters = score(references.texts, hypotheses.texts, unit="char", **how)
    groups = references.speakers if args.bootstrap == "speaker" and len(set(references.speakers.values())) > 1 else None
    interval = words.interval(groups, samples=args.samples)
    low, high = (f"{100 * bound:.2f}" for bound in interval) if interval else ("", "")
    row = {"name": name, **words.row(), "CER": f"{100 * characters.rate:.2f}", "low": low, "high": high}
    shown = {"name": name, "WER": row["WER"], "95 %": interval_cell(interval), "CER": row["CER"],
             **{key: row[key] for key in ("SER", "sub", "del", "ins", "words", "utterances")}}
    print(format_table([shown]))
    print(f"(interval: bootstrap over {'speakers' if groups else 'utterances'}; text rule: {args.normalise})")
    if "speaker" in args.per:
        print("\n" + format_table(per_group(words, references.speakers, "speaker")))
    if "duration" in args.per:
        print("\n" + format_table(per_duration(words, references.durations)))
    if "condition" in args.per:
        print("\n" + format_table(per_group(words, conditions, "condition")))
    confidences = _confidences(references, hypotheses, args.normalise, args.missing)
    if bias:
        print("\n" + format_table(bias, title=f"phrases of {args.phrases}"))
    if args.errors:
        _print_errors(words, args.errors)
    if args.against:
        other = score(references.texts, against, **how)
        tests = {"MAPSSWE": mapsswe(words, other), "permutation": permutation_test(words, other, groups, samples=args.samples)}
        print(f"\nagainst {args.against}: WER {100 * other.rate:.2f}, difference {100 * (words.rate - other.rate):+.2f}")
        print(format_table([{"test": key, "statistic": f"{t.statistic:.3f}", "p": f"{t.p:.4f}", "n": t.n} for key, t in tests.items()]))
        comparison = [{"against": Path(args.against).stem, "its WER": f"{100 * other.rate:.2f}", "test": key,
                       "difference": f"{100 * t.difference:+.2f}", "p": f"{t.p:.4f}"} for key, t in tests.items()]
    path = _record_path(args, name)
    if args.csv:
        append_csv(args.csv, {"date": time.strftime("%Y-%m-%d %H:%M:%S"), "ref": args.ref, "normalise": args.normalise, **row,
                              "record": path})
    if args.report:
        from voxkit.eval.report import write_report

        with tempfile.TemporaryDirectory() as folder:
            write_report(args.report, words, title=name, summary=[shown], speakers=references.speakers, conditions=conditions,
                         durations=references.durations or hypotheses.durations, audio=references.audio, comparison=comparison,
                         worst=args.worst,
                         calibrated={"word confidences": confidences} if confidences else None, curves=_curves(args.curves, folder))
        print(f"report: {args.report}")
    result = {**row, "tests": comparison, "phrases": bias}
    if path:
        _write(path, args, result)
        print(f"record: {path}")
    return result


def _record_path(args: argparse.Namespace, name: str) -> Path | None:
    """Where the record goes; None where nothing else is written. Never the name of a decoding's record, which may lie there too."""
    from voxkit.files import file_name

    if args.record:
        return Path(args.record)
    if args.report:
        return Path(args.report).with_name(f"{Path(args.report).stem}_score.json")
    return Path(args.csv).parent / f"{file_name(name)}_score.json" if args.csv else None


def _write(path: Path, args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Everything that decided the result; input files with their SHA-256."""
    from voxkit.cli import record

    stamps: dict[str, Any] = {key: record.stamped(getattr(args, key), path) for key in _FILES if getattr(args, key)}
    if args.condition and Path(args.condition).is_file():
        stamps["condition"] = record.stamped(args.condition, path)
    if args.report:
        stamps["curves"] = [record.stamped(file, path) for file in _curve_files(args.curves)]
    options = {key: value for key, value in vars(args).items() if key not in ("command", "run", "again", *_WRITTEN, *stamps)}
    record.write(path, "score", {"inputs": stamps, "options": options, "report": Path(args.report).name if args.report else None,
                                 "csv": Path(args.csv).name if args.csv else None, **record.made_by("numpy"), "result": result})


def _arguments(known: dict[str, Any], given: argparse.Namespace) -> argparse.Namespace:
    """The options that repeat a scoring; what it writes goes to again/ beside the record, unless it is said where.

    Raises:
        ValueError: an input is not there any more or has changed, or the record would be overwritten.
    """
    from voxkit.cli import record

    names = {"ref": "references", "hyp": "hypotheses", "against": "hypotheses (--against)", "phrases": "phrases", "condition": "condition"}
    found: dict[str, Any] = {key: record.unchanged(names[key], stamp, known["folder"]) for key, stamp in known["inputs"].items()
                             if key != "curves"}
    curves = [Path(record.unchanged("curves", stamp, known["folder"])) for stamp in known["inputs"].get("curves", [])]
    found["curves"] = [str(file if file.suffix == ".png" else file.parent) for file in curves]
    out = record.again_folder(known, None)
    written = {key: getattr(given, key) or (str(out / known[key]) if known[key] else None) for key in ("report", "csv")}
    again = Path(given.record or out / Path(given.again).name)
    if again.resolve() == Path(given.again).resolve():
        raise ValueError(f"--record {again}: the record itself would be overwritten; give another file")
    return argparse.Namespace(**{**vars(given), **known["options"], **found, **written, "record": str(again), "again": None})


def _biasing(result: Any, path: str, normalise: str, name: str) -> dict[str, object]:
    """One row about a phrase list."""
    from voxkit.cli.search_options import read_phrases
    from voxkit.eval.biasing import biasing
    from voxkit.eval.normalise import normalisation

    rule = normalisation(normalise)
    found = biasing(result, [rule(phrase) for phrase in read_phrases(path, 0.0)])
    return {"name": name, "said": found.said, "found": found.found, "recall": f"{100 * found.recall:.1f}", "false": found.false,
            "WER without": f"{100 * found.others.rate:.2f}" if found.others else "", "WER": f"{100 * result.rate:.2f}"}


def _conditions(by: str, references: Any) -> dict[str, str]:
    """id → condition, from a field or a file."""
    from voxkit.eval.texts import read_texts

    if Path(by).is_file():
        return read_texts(by).texts
    found = {id: str(fields[by]) for id, fields in references.custom.items() if by in fields}
    if not found:
        there = sorted({key for fields in references.custom.values() for key in fields})
        raise ValueError(f"--condition {by}: no such file, and no cut has such a field; fields there are: {', '.join(there) or 'none'}")
    return found


def _confidences(references: Any, hypotheses: Any, normalise: str, missing: str) -> Any:
    """Print what the words' confidences and times are worth, where hypotheses and references have them → Calibration or None."""
    from voxkit.eval.boundaries import boundary_scores
    from voxkit.eval.calibration import measured
    from voxkit.eval.normalise import normalisation

    words = {id: found for id, found in hypotheses.words.items() if id in references.texts}
    if not words:
        return None
    quality = measured(references.texts, words, normalisation(normalise))
    if quality is not None:
        print(f"confidences: expected calibration error {100 * quality.error:.2f} %, normalised cross-entropy {quality.nce:.3f}")
    timed = [id for id in references.words if id in hypotheses.texts]
    if timed:
        times = boundary_scores([references.words[id] for id in timed], [words.get(id, []) for id in timed])
        print(f"word times: {1000 * times.error:.1f} ms off in the mean, F1 at 50 ms {100 * times.f1:.1f} %, starts "
              f"{1000 * times.start_bias:+.1f} ms, ends {1000 * times.end_bias:+.1f} ms, {times.words} words")
    return quality


def _curve_files(sources: list[str]) -> list[Path]:
    """What the curves are drawn of: PNG files, and of a training run its metrics."""
    from voxkit.plot import find_run

    return [Path(s) if s.endswith(".png") else find_run(s) / "metrics.json" for s in sources]


def _curves(sources: list[str], folder: str) -> list[Path]:
    """PNG files: those given, and one drawn of all runs given."""
    pictures = [Path(s) for s in sources if s.endswith(".png")]
    runs = [s for s in sources if not s.endswith(".png")]
    if runs:
        from voxkit.plot import plot_curves

        pictures.append(plot_curves(runs, Path(folder) / "curves.png"))
    return pictures


def _print_errors(result, count: int) -> None:
    for u in sorted(result.utterances, key=lambda u: (-u.errors, u.id))[:count]:
        if u.errors:
            print(f"\n{u.id}: {u.errors} errors in {u.words}")
            columns = [(r or "*" * len(h or ""), h or "*" * len(r or "")) for r, h in u.pairs()]
            columns = [(r.lower(), h.lower()) if r == h else (r.upper(), h.upper()) for r, h in columns]
            for label, side in (("ref", 0), ("hyp", 1)):
                print(f"  {label}: " + " ".join(pair[side].ljust(max(map(len, pair))) for pair in columns))
    print()
    for (reference, hypothesis), times in result.confusions().most_common(count):
        print(f"  {times:4d}  {reference or '(nothing)'} -> {hypothesis or '(nothing)'}")
