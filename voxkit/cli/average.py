"""`voxkit average`: one checkpoint from several of a run: the best, the last, named ones, or the mean between two of them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Register the command."""
    p = subparsers.add_parser("average", help="average checkpoints into one", description=__doc__)
    p.add_argument("--run", dest="run_dir", metavar="RUN_DIR", help="run directory whose checkpoints/ to choose from")
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--best", type=int, metavar="K", help="the K best by --metric")
    which.add_argument("--last", type=int, metavar="K", help="the K last")
    which.add_argument("--checkpoints", nargs="+", metavar="DIR", help="these")
    which.add_argument("--running", nargs=2, metavar=("FIRST", "LAST"),
                       help="the mean of all weights between two checkpoints (directories, or steps of --run), from their running means "
                            "(train.average.kind=mean)")
    p.add_argument("--metric", default="wer", help="for --best (default: wer)")
    p.add_argument("--mode", default="min", choices=["min", "max"], help="whether low or high is good (default: min)")
    p.add_argument("--weights", default="model", choices=["model", "average", "auto"],
                   help="the weights themselves, or each checkpoint's running average")
    p.add_argument("--out", required=True, metavar="DIR", help="the new checkpoint directory")
    p.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Choose, average, write a checkpoint directory that decodes like any other."""
    from voxkit.checkpoint.averaging import average_between, average_checkpoints, select, write_averaged

    if args.checkpoints:
        chosen = [Path(path) for path in args.checkpoints]
    elif args.running:
        chosen = [_checkpoint(args.run_dir, name) for name in args.running]
    else:
        if not args.run_dir:
            raise ValueError("--best and --last choose among a run's checkpoints: give it with --run RUN_DIR")
        chosen = select(args.run_dir, best=args.best or 0, last=args.last or 0, metric=args.metric, mode=args.mode)
    state = average_between(*chosen) if args.running else average_checkpoints(chosen, args.weights)
    write_averaged(state, chosen, Path(args.out))
    between = "updates between " if args.running else ""
    print(f"{args.out}: mean of {between}{', '.join(path.name for path in chosen)}")
    return 0


def _checkpoint(run_dir: str | None, name: str) -> Path:
    """A directory, or a step of the run."""
    if name.isdigit() and run_dir:
        return Path(run_dir) / "checkpoints" / f"step-{int(name):08d}"
    return Path(name)
