"""`voxkit contrast`: error rates of a LaCT recognizer with its session's own state, with another session's, without one, and without
learning at all; the same utterances and weights, intervals over speakers."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "does a carried state help? the same utterances with it, with another's, and without (LaCT ASR)"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("contrast", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name, of system lact_asr")
    parser.add_argument("--sets", nargs="+", required=True, help="prepared sets, or paths of cuts, with speakers")
    parser.add_argument("--data-dir", help="where they are; as in training unless given")
    parser.add_argument("--utterances", type=int, default=8, help="in a session (8)")
    parser.add_argument("--method", default="greedy", help="the search")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--out", metavar="JSON", help="also write the figures there")
    parser.add_argument("--device", default="auto")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.experiments.contrast import READINGS, ContrastJob, contrast

    found = contrast(ContrastJob(args.checkpoint, tuple(args.sets), args.data_dir, args.utterances, args.method, args.beam, args.out,
                                 args.device, tuple(args.overrides)))
    said = {"reset": "initial weights, learning within the utterance", "carried": "its session's state", "other": "another session's state",
            "still": "initial weights, no learning"}
    rows = [{"state": said[name], "WER": f"{100 * found.results[name].rate:.2f}",
             "relative to reset": _difference(found.differences[name]) if name in found.differences else ""} for name in READINGS]
    words = found.results["reset"].words
    print(format_table(rows, title=f"utterances 2 and later of {found.sessions} sessions, {found.speakers} speakers, {words} words"))
    print(f"own state against another session's: {_difference(found.own_against_other)}")
    places = [{"utterance": n + 1, **{name: f"{100 * rates[n]:.2f}" for name, rates in found.by_place.items()}}
              for n in range(len(found.by_place["reset"]))]
    print(format_table(places, title="WER by place in the session"))
    return 0


def _difference(found: tuple[float, float, float]) -> str:
    return "{:+.1%} ({:+.1%} to {:+.1%})".format(*found)
