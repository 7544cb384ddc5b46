"""`voxkit hallucinate`: what a checkpoint says where nobody speaks, in words per minute: on silence and noises made on the spot, and on the
recordings of a folder (each subfolder is a condition); with a record of each method from which one command repeats it."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "words per minute where nobody speaks"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.again import add_again_argument
    from voxkit.cli.search_options import add_search_arguments, add_tuned_argument
    from voxkit.text.intents import CONFIDENCE

    parser = subparsers.add_parser("hallucinate", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    add_again_argument(parser, "it for one method", "decode/hallucination_METHOD.json in a run")
    parser.add_argument("--folders", nargs="*", default=[], help="recordings without speech, besides what is made")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each condition")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a clip")
    parser.add_argument("--commands", metavar="PACK", help="count the clips that are answered with a command of this pack")
    parser.add_argument("--command-confidence", type=float, default=CONFIDENCE, metavar="P",
                        help=f"with --commands: nothing is answered below it (default {CONFIDENCE})")
    parser.add_argument("--methods", nargs="+", default=[], help="greedy, prefix_beam, attention, joint, rescoring")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    parser.add_argument("--out", help="by default decode/ in the run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli.again import refuse_besides, say_whether_same
    from voxkit.cli.search_options import job_fields, search_settings
    from voxkit.experiments.hallucinate import HallucinateJob, hallucinate, hallucinate_again

    if args.again:
        refuse_besides(args, add_parser, "hallucinate", ("device", "out"))
        known, found, differing = hallucinate_again(args.again, device=args.device, out=args.out, say=print)
        _show([found])
        return say_whether_same(known, differing, f"{found.rows[-1]['words/min']} words a minute")
    if not args.checkpoint:
        raise ValueError("give a checkpoint, or --again with the record of a method")
    job = HallucinateJob(search=search_settings(args), **job_fields(args, "checkpoint", "folders", "minutes", "seconds", "commands",
                                                                    "command_confidence", "methods", "out", "device", "overrides"))
    _show(hallucinate(job, print))
    return 0


def _show(found: list[Any]) -> None:
    from voxkit.eval.table import format_table

    record = found[0].record
    print(format_table([row for method in found for row in method.rows], title=record.inputs["weights"]["path"].rpartition("/")[0]))
    print(f"what was said, records and hallucination.csv: {record.path.parent}")
