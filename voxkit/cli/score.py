"""`voxkit score`: error rates of a hypothesis file against references, with intervals, tables and tests between two runs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Register the command."""
    p = subparsers.add_parser("score", help="WER / CER / SER with confidence intervals, significance tests and a report",
                              description=__doc__)
    p.add_argument("--ref", required=True, help="references: lhotse cuts, JSON lines, or lines of id<TAB>text")
    p.add_argument("--hyp", required=True, help="hypotheses: JSON lines, or lines of id<TAB>text")
    p.add_argument("--against", help="hypotheses of another system: MAPSSWE and permutation test between the two")
    p.add_argument("--normalise", default="none", help="text rule on both sides: none, lower, librispeech, whisper-english")
    p.add_argument("--missing", default="error", choices=["error", "empty"], help="a reference without hypothesis: stop, or all deleted")
    p.add_argument("--bootstrap", default="speaker", choices=["speaker", "utterance"], help="what the interval resamples")
    p.add_argument("--samples", type=int, default=10_000, help="bootstrap and permutation samples")
    p.add_argument("--per", nargs="*", default=[], choices=["speaker", "duration"], help="further tables")
    p.add_argument("--errors", type=int, default=0, metavar="N", help="print the N worst utterances and confusions")
    p.add_argument("--csv", help="append a row to this results.csv")
    p.add_argument("--name", default="", help="name of the run in tables, CSV and report; by default the hypothesis file's")
    p.add_argument("--report", metavar="HTML", help="write one self-contained HTML page")
    p.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Score, print, append."""
    from voxkit.eval.statistics import mapsswe, permutation_test
    from voxkit.eval.table import append_csv, format_table, per_duration, per_group
    from voxkit.eval.texts import read_texts
    from voxkit.eval.wer import score

    name = args.name or Path(args.hyp).stem
    references, hypotheses = read_texts(args.ref), read_texts(args.hyp)
    how = {"normalise": args.normalise, "missing": args.missing}
    words = score(references.texts, hypotheses.texts, **how)
    characters = score(references.texts, hypotheses.texts, unit="char", **how)
    groups = references.speakers if args.bootstrap == "speaker" and len(set(references.speakers.values())) > 1 else None
    low, high = words.interval(groups, samples=args.samples)
    row = {"name": name, **words.row(), "CER": f"{100 * characters.rate:.2f}", "low": f"{100 * low:.2f}", "high": f"{100 * high:.2f}"}
    shown = {"name": name, "WER": row["WER"], "95 %": f"{row['low']}-{row['high']}", "CER": row["CER"],
             **{key: row[key] for key in ("SER", "sub", "del", "ins", "words", "utterances")}}
    print(format_table([shown]))
    print(f"(interval: bootstrap over {'speakers' if groups else 'utterances'}; text rule: {args.normalise})")
    if "speaker" in args.per:
        print("\n" + format_table(per_group(words, references.speakers, "speaker")))
    if "duration" in args.per:
        print("\n" + format_table(per_duration(words, references.durations)))
    if args.errors:
        _print_errors(words, args.errors)
    if args.against:
        other = score(references.texts, read_texts(args.against).texts, **how)
        tests = {"MAPSSWE": mapsswe(words, other), "permutation": permutation_test(words, other, groups, samples=args.samples)}
        print(f"\nagainst {args.against}: WER {100 * other.rate:.2f}, difference {100 * (words.rate - other.rate):+.2f}")
        print(format_table([{"test": key, "statistic": f"{t.statistic:.3f}", "p": f"{t.p:.4f}", "n": t.n} for key, t in tests.items()]))
    if args.csv:
        append_csv(args.csv, {"date": time.strftime("%Y-%m-%d %H:%M:%S"), "ref": args.ref, "normalise": args.normalise, **row})
    if args.report:
        from voxkit.eval.report import write_report

        write_report(args.report, words, title=name, summary=[shown], speakers=references.speakers,
                     durations=references.durations, audio=references.audio)
        print(f"report: {args.report}")
    return 0


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
