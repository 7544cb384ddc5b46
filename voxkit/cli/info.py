"""`voxkit info`: the parts of a configured model and their parameters, all and trained."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "the parts and parameters of a configuration"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("info", help=HELP, description=__doc__)
    parser.add_argument("config", nargs="+", metavar="YAML|key=value", help="configuration(s), laid over one another, and overrides")
    parser.add_argument("--vocab-size", type=int, default=2000, help="where the configuration leaves it to the tokenizer")
    parser.add_argument("--names", action="store_true", help="every parameter by name")
    parser.set_defaults(overrides=[])  # those that stand behind an option; the others come with the configurations


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from voxkit import config as configuration
    from voxkit.hub import shape_only
    from voxkit.models.sizes import count_parameters
    from voxkit.recipe import structure_recipe

    files = [c for c in args.config if "=" not in c]
    if not files:
        raise ValueError("give a configuration file: voxkit info egs/librispeech/voxformer/conf/stage1.yaml")
    overrides = [*(c for c in args.config if "=" in c), *args.overrides]
    recipe = structure_recipe(configuration.overlay(files, overrides), " + ".join(files))
    with shape_only():
        model = recipe.build_model(recipe.model.vocab_size or args.vocab_size)
    table = Table("part", "parameters", "trained", title=f"{recipe.config.system}: {', '.join(files)}")
    for part, total, trained in count_parameters(model, names=args.names):
        table.add_row(part, f"{total:,}", f"{trained:,}", style="bold" if part == "total" else "")
    Console().print(table)
    return 0
