"""`voxkit train`: a configuration → a run directory with checkpoints. The same command continues what was broken off."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "train a model from a configuration"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("train", help=HELP, description=__doc__)
    parser.add_argument("--config", nargs="+", required=True, metavar="YAML", help="configuration; further ones are laid over it")
    parser.add_argument("--exp", default="exp", help="where run directories go (exp/<date_time>_<name>)")
    parser.add_argument("--name", help="of the run (name: in the configuration)")
    parser.add_argument("--run-dir", help="exactly this directory instead")
    parser.add_argument("--fresh", action="store_true", help="a new run even where one of this name could be continued")
    parser.add_argument("--init", help="start from the weights of this checkpoint or run (`exp/stage1`)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = as torch chooses")
    parser.add_argument("--max-hours", type=float, help="end after this many hours, with a checkpoint")
    parser.add_argument("--price-per-hour", type=float, help="of the machine, for the log")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the configuration, e.g. train.epochs=3")


def run(args: argparse.Namespace) -> int:
    import torch

    from voxkit import config as configuration
    from voxkit.run import train
    from voxkit.run_config import make_setup
    from voxkit.train import distributed

    extra = [f"{key}={value}" for key, value in (("name", args.name), ("init", args.init), ("train.max_hours", args.max_hours),
                                                 ("train.price_per_hour", args.price_per_hour)) if value is not None]
    setup = make_setup(configuration.overlay(args.config, [*args.overrides, *extra]), " + ".join(Path(c).name for c in args.config))
    if args.threads:
        torch.set_num_threads(args.threads)
    result, run_dir = train(setup, exp=args.exp, run_dir=args.run_dir, fresh=args.fresh, device=args.device)
    if distributed.main_process():
        best = f"; best {setup.config.train.metric} {result.best:.4f}" if result.best is not None else ""
        print(f"{result.reason} at step {result.step}{best}; {result.hours:.2f} h; {run_dir}")
    return 0 if result.reason in ("finished", "early_stop", "budget") else 130
