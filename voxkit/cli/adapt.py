"""`voxkit adapt`: let a LaCT recognizer listen to a speaker, and keep what its fast weights have learned for `transcribe --state`."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "audio of a speaker → a state that recognition begins with (LaCT ASR)"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("adapt", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name, of system lact_asr")
    parser.add_argument("audio", nargs="+", help="files of one speaker, or folders of them; no text is needed")
    parser.add_argument("--out", required=True, metavar="FILE", help="the state, safetensors; with --rttm a folder for one of each speaker")
    parser.add_argument("--state", metavar="FILE", help="go on from this state")
    parser.add_argument("--rttm", metavar="FILE", help="who speaks when in the one recording that is given")
    parser.add_argument("--no-guard", action="store_true",
                        help="learn also from utterances that the state knows less well than the initial weights do")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.experiments.adapt import AdaptJob, adapt

    job = AdaptJob(args.checkpoint, tuple(args.audio), args.out, args.state, args.rttm, not args.no_guard, args.device)
    rows = [{"speaker": done.speaker or "-", "utterances": done.utterances, "seconds": f"{done.seconds:.1f}", "fallbacks": done.fallbacks,
             "change by layer": " ".join(f"{100 * x:.0f}%" for x in done.change), "state": done.path} for done in adapt(job)]
    print(format_table(rows))
    return 0
