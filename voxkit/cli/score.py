"""`voxkit score`: error rates of a hypothesis file against references, with intervals, tables and tests between two runs. What it writes
has a record beside it, from which one command repeats it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxkit.eval.wer import WerResult
    from voxkit.experiments.evaluate import Evaluation, ScoreJob

_FIELDS = ("ref", "hyp", "against", "normalize", "missing", "phrases", "commands", "command_confidence", "bootstrap", "samples", "per",
           "condition", "name", "report", "curves", "worst", "csv", "record")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Register the command."""
    from voxkit.cli.again import add_again_argument
    from voxkit.text.intents import CONFIDENCE

    p = subparsers.add_parser("score", help="WER / CER / SER with confidence intervals, significance tests and a report",
                              description=__doc__)
    add_again_argument(p, "a scoring", "beside what it wrote")
    p.add_argument("--ref", help="references: lhotse cuts, JSON lines, or lines of id<TAB>text")
    p.add_argument("--hyp", help="hypotheses: JSON lines, or lines of id<TAB>text; exp/NAME/... is in the newest run of that name")
    p.add_argument("--against", help="hypotheses of another system: MAPSSWE and permutation test between the two")
    p.add_argument("--normalize", default="none", help="text rule on both sides: none, lower, librispeech, whisper-english")
    p.add_argument("--phrases", metavar="FILE", help="recall of these phrases, one a line, and the WER of utterances without any")
    p.add_argument("--commands", metavar="PACK", help="accuracy of the intents and slots of this pack, and what is missed against what is "
                                                      "answered though nothing of it was said")
    p.add_argument("--command-confidence", type=float, default=CONFIDENCE, metavar="P",
                   help=f"with --commands: nothing is answered below it (default {CONFIDENCE})")
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
    from voxkit.cli.again import refuse_besides, say_whether_same
    from voxkit.cli.search_options import job_fields
    from voxkit.experiments.evaluate import ScoreJob, evaluate, evaluate_again
    from voxkit.experiments.records import from_json

    if args.again:
        refuse_besides(args, add_parser, "score", ("report", "csv", "record"))
        known, found, differing = evaluate_again(args.again, report=args.report, csv=args.csv, record=args.record)
        assert found.record is not None
        _show(found, from_json(ScoreJob, found.record.job), args)
        return say_whether_same(known, differing, f"WER {found.row['WER']}")
    if not args.ref or not args.hyp:
        raise ValueError("give --ref and --hyp, or --again with the record of a scoring")
    job = ScoreJob(**job_fields(args, *_FIELDS))
    _show(evaluate(job), job, args)
    return 0


def _show(found: Evaluation, job: ScoreJob, args: argparse.Namespace) -> None:
    from voxkit.eval.table import format_table

    print(format_table([found.shown]))
    print(f"(interval: bootstrap over {found.resampled}; text rule: {job.normalize})")
    for rows in found.tables.values():
        print("\n" + format_table(rows))
    if (quality := found.quality) is not None:
        print(f"confidences: expected calibration error {100 * quality.error:.2f} %, normalized cross-entropy {quality.nce:.3f}")
    if found.times is not None:
        t = found.times
        print(f"word times: {1000 * t.error:.1f} ms off in the mean, F1 at 50 ms {100 * t.f1:.1f} %, starts {1000 * t.start_bias:+.1f} ms, "
              f"ends {1000 * t.end_bias:+.1f} ms, {t.words} words")
    if found.phrases:
        print("\n" + format_table(found.phrases, title=f"phrases of {job.phrases}"))
    if found.commands:
        shown = [found.commands.result, *found.commands.curve]
        print("\n" + format_table([one.row() for one in shown[:1]], title=f"commands of {job.commands}, in %"))
        print("\n" + format_table([one.row() for one in shown[1:]], title="rejection against miss"))
    if args.errors:
        _print_errors(found.words, args.errors)
    if found.other is not None:
        print(f"\nagainst {job.against}: WER {100 * found.other.rate:.2f}, difference {100 * (found.words.rate - found.other.rate):+.2f}")
        tests = found.tests.items()
        print(format_table([{"test": key, "statistic": f"{t.statistic:.3f}", "p": f"{t.p:.4f}", "n": t.n} for key, t in tests]))
    if found.report:
        print(f"report: {found.report}")
    if found.record:
        print(f"record: {found.record.path}")


def _print_errors(result: WerResult, count: int) -> None:
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
