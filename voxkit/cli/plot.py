"""`voxkit plot`: curves of training runs, or the layer weights of a checkpoint, as PNG."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "curves of training runs, layer weights of a checkpoint, as PNG"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("plot", help=HELP, description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    curves = what.add_parser("curves", help="loss, WER on dev and learning rate by step")
    curves.add_argument("runs", nargs="+", metavar="RUN", help="run directories, or exp/NAME for the newest run of that name")
    curves.add_argument("--overlay", action="store_true", help="all begin at step 0; by default one follows the other, as stages do")
    curves.add_argument("--title", default="")
    curves.add_argument("--out", type=Path, default=Path("curves.png"))
    mix = what.add_parser("mix", help="weights of the layer mix")
    mix.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    mix.add_argument("--out", type=Path, default=Path("mix.png"))


def run(args: argparse.Namespace) -> int:
    from voxkit.plot import mix_weights, plot_curves, plot_mix

    if args.what == "curves":
        print(plot_curves(args.runs, args.out, overlay=args.overlay, title=args.title))
        return 0
    from voxkit.infer.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(args.checkpoint)
    for state, weight in mix_weights(checkpoint).items():
        print(f"state {state:2}  {weight:.4f}")
    print(plot_mix(checkpoint, args.out))
    return 0
