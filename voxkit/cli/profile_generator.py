"""`voxkit profile-generator`: time to first audio, speed and memory of generators while what they have made grows to minutes."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "what generating audio costs, and how it grows with its length"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("profile-generator", help=HELP, description=__doc__)
    parser.add_argument("checkpoints", nargs="+", help="runs or checkpoints of system lact_audio, by the same protocol")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0, 300.0], help="marks of audio made (10 60 300)")
    parser.add_argument("--buffer", type=float, default=0.2, metavar="S", help="seconds of a buffer (0.2)")
    parser.add_argument("--out", default="", metavar="JSON", help="also write the figures there")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.experiments.profile_generator import ProfileJob, profile

    rows = []
    for one in profile(ProfileJob(tuple(args.checkpoints), tuple(args.seconds), args.buffer, args.out, args.device)):
        marks = {f"{mark.seconds:g} s": f"{mark.rtf:.3f} / {mark.state_bytes / 1e6:.2f} MB" for mark in one.marks}
        rows.append({"run": one.checkpoint, "backbone": one.backbone, "million parameters": f"{one.parameters / 1e6:.1f}",
                     "first audio": f"{1000 * one.first:.0f} ms", **marks, "memory": f"{one.memory_growth:+.0%}",
                     "time": f"{one.time_growth:+.0%}"})
    print(format_table(rows, title="seconds per second of audio / state, at marks; growth from the first mark to the last"))
    return 0
