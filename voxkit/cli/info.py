"""`voxkit info`: the parts of a configured model and their parameters, all and trained, and the memory that they take; of a configuration,
or of a variant of VoxLM by its name (voxlm-2b). Nothing is downloaded for the names that voxkit knows."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "the parts and parameters of a configuration"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("info", help=HELP, description=__doc__)
    parser.add_argument("config", nargs="+", metavar="YAML|VARIANT|key=value",
                        help="configuration(s), laid over one another, and overrides; or the name of a VoxLM")
    parser.add_argument("--vocab-size", type=int, default=2000, help="where the configuration leaves it to the tokenizer")
    parser.add_argument("--names", action="store_true", help="every parameter by name")
    parser.set_defaults(overrides=[])  # those that stand behind an option; the others come with the configurations


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from voxkit.hub import shape_only
    from voxkit.models.sizes import count_parameters, memory
    from voxkit.recipe import structure_recipe

    files = [c for c in args.config if "=" not in c]
    if not files:
        raise ValueError("give a configuration file: voxkit info egs/librispeech/voxformer/conf/stage1.yaml")
    overrides = [*(c for c in args.config if "=" in c), *args.overrides]
    recipe = structure_recipe(_configuration(files, overrides), " + ".join(files))
    with shape_only():
        model = recipe.build_model(recipe.model.vocab_size or args.vocab_size)
    table = Table("part", "parameters", "trained", title=f"{recipe.config.system}: {', '.join(files)}")
    for part, total, trained in count_parameters(model, names=args.names):
        table.add_row(part, f"{total:,}", f"{trained:,}", style="bold" if part == "total" else "")
    Console().print(table)
    weights, training = memory(model)
    print(f"memory: weights {weights / 2**30:.2f} GiB (in half precision {weights / 2**31:.2f}); training {training / 2**30:.2f} GiB more "
          "for gradients and Adam's averages, and what the batch needs")
    return 0


def _configuration(files: list[str], overrides: list[str]) -> Any:
    """Of files, or of one variant's name."""
    from omegaconf import OmegaConf

    from voxkit import config as configuration
    from voxkit.models.voxlm_variants import ALIASES, VARIANTS, get_config

    if len(files) == 1 and files[0] in {**VARIANTS, **ALIASES}:
        node = OmegaConf.create({"system": "voxlm", "model": OmegaConf.to_container(OmegaConf.structured(get_config(files[0])))})
        return configuration.merge(node, overrides)
    return configuration.overlay(files, overrides)
