"""`voxkit history`: loss of a generator on the same speech after its own history, another speaker's, and none; intervals over speakers."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "is what was said before worth anything to a generator? own history against another's and none (LaCT audio)"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("history", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a run or checkpoint of system lact_audio")
    parser.add_argument("--sets", nargs="+", required=True, help="prepared sets, or paths of cuts, with speakers")
    parser.add_argument("--data-dir", default="data", help="where they are")
    parser.add_argument("--history", type=float, default=60.0, metavar="S", help="seconds heard before (60)")
    parser.add_argument("--target", type=float, default=60.0, metavar="S", help="seconds whose loss is taken (60)")
    parser.add_argument("--window", type=float, default=10.0, metavar="S", help="by windows of so many seconds (10)")
    parser.add_argument("--beyond", type=float, default=20.0, metavar="S",
                        help="differences are over windows from here on, which attention does not reach back from (20)")
    parser.add_argument("--out", default="", metavar="JSON", help="also write the figures there")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.experiments.history import HISTORIES, HistoryJob, compare_histories

    found = compare_histories(HistoryJob(args.checkpoint, tuple(args.sets), args.data_dir, args.history, args.target, args.window,
                                         args.beyond, args.out, args.device))
    rows = [{"seconds after": f"{place:g}", **{name: f"{found.losses[name][n]:.4f}" for name in HISTORIES}}
            for n, place in enumerate(found.places)]
    print(format_table(rows, title=f"nats per code by history, {found.speakers} speakers"))
    for name, (mean, low, high) in found.differences.items():
        print(f"own less {name}, from {args.beyond:g} s on: {mean:+.4f} ({low:+.4f} to {high:+.4f}) nats per code")
    return 0
