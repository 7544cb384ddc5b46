"""`voxkit train`: a configuration → a run directory with checkpoints. The same command continues what was broken off."""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
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
    import numpy as np
    import torch

    from voxkit import config as configuration
    from voxkit.checkpoint.runs import latest_run
    from voxkit.recipe import structure_recipe
    from voxkit.train import distributed
    from voxkit.train.logging import RunLog
    from voxkit.train.mirror import Mirror
    from voxkit.train.run_dir import changed_options, describe_run, new_run_dir
    from voxkit.training import Training, check_recipe

    extra = [f"{key}={value}" for key, value in (("name", args.name), ("init", args.init), ("train.max_hours", args.max_hours),
                                                 ("train.price_per_hour", args.price_per_hour)) if value is not None]
    recipe = structure_recipe(configuration.overlay(args.config, [*args.overrides, *extra]), " + ".join(Path(c).name for c in args.config))
    check_recipe(recipe)
    if args.threads:
        torch.set_num_threads(args.threads)
    world = distributed.setup(args.device)
    try:
        seed = recipe.config.seed
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        run_dir = None
        if world.main:
            mirror = recipe.config.train.mirror
            if args.fresh and mirror and Mirror(mirror, Path(args.exp)).complete():
                raise ValueError(f"--fresh: {mirror} holds checkpoints of an earlier run, which this one would go on from; give it another "
                                 "train.mirror")
            if args.run_dir:
                run_dir = Path(args.run_dir)
            else:
                run_dir = None if args.fresh else latest_run(args.exp, recipe.config.name)
                run_dir = run_dir or new_run_dir(args.exp, recipe.config.name)
        run_dir = distributed.broadcast(world, run_dir)
        with contextlib.closing(RunLog(run_dir, world.main)):  # left-out utterances, the cache, the search for a batch size
            training = Training(recipe, run_dir, world)
            if world.main and (changed := changed_options(run_dir, recipe.as_mapping())):
                logging.getLogger("voxkit.train").warning(
                    "%s was begun with other options: %s. Steps from here on take the new ones; --name or --fresh begins a run of its own",
                    run_dir, ", ".join(changed))
        if world.main:
            describe_run(run_dir, recipe.as_mapping())
        result = training.fit()
        if world.main:
            best = f"; best {recipe.config.train.metric} {result.best:.4f}" if result.best is not None else ""
            print(f"{result.reason} at step {result.step}{best}; {result.hours:.2f} h; {run_dir}")
        return 0 if result.reason in ("finished", "early_stop", "budget") else 130
    finally:
        distributed.cleanup()
