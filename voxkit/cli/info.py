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
    parser.add_argument("--memory", metavar="24GB", help="of each GPU: recommend batch, accumulation, checkpointing and chunk")
    parser.add_argument("--gpus", type=int, default=1, help="that share weights and averages (with --memory)")
    parser.add_argument("--step-seconds", type=float, default=600.0, help="of audio that one step of all GPUs should see (with --memory)")
    parser.set_defaults(overrides=[])  # those that stand behind an option; the others come with the configurations


def run(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console
    from rich.table import Table

    from voxkit.hub import shape_only
    from voxkit.models.sizes import count_parameters, memory
    from voxkit.run_config import make_setup

    files = [c for c in args.config if "=" not in c]
    if not files:
        raise ValueError("give a configuration file: voxkit info egs/librispeech/voxformer/conf/stage1.yaml")
    overrides = [*(c for c in args.config if "=" in c), *args.overrides]
    setup = make_setup(_configuration(files, overrides), " + ".join(files))
    with shape_only(), torch.device("meta"):  # billions of parameters are counted, none is made
        model = setup.build_model(setup.model.vocab_size or args.vocab_size)
    table = Table("part", "parameters", "trained", title=f"{setup.config.system}: {', '.join(files)}")
    for part, total, trained in count_parameters(model, names=args.names):
        table.add_row(part, f"{total:,}", f"{trained:,}", style="bold" if part == "total" else "")
    Console().print(table)
    weights, training = memory(model)
    print(f"memory: weights {weights / 2**30:.2f} GiB (in half precision {weights / 2**31:.2f}); training {training / 2**30:.2f} GiB more "
          "for gradients and Adam's averages, and what the batch needs")
    if args.memory:
        _recommend(model, setup, args)
    return 0


def _recommend(model: Any, setup: Any, args: argparse.Namespace) -> None:
    """Print what fits into the memory, and what to take."""
    from voxkit.eval.table import format_table
    from voxkit.models.budget import best, parse_memory, plans

    found = plans(model, parse_memory(args.memory), args.gpus, args.step_seconds)
    rows = [{"chunk": plan.chunk or "-", "checkpointing": "yes" if plan.checkpointing else "no",
             "seconds": f"{plan.seconds:.0f}" if plan.seconds else "none", "accumulate": plan.accumulate or "-",
             "MB per second": f"{plan.per_second / 1e6:.0f}"} for plan in found]
    print(format_table(rows, title=f"{args.gpus} x {args.memory}, half precision: weights, gradients and averages take "
                                   f"{found[0].weights / 1e9:.1f} GB of each; seconds of audio that fit beside them"))
    fast = getattr(getattr(model.encoder, "config", None), "fast", None)
    plan = best(found, fast.chunk if fast is not None else 0, args.step_seconds, args.gpus)
    if plan is None:
        raise ValueError(f"--memory {args.memory}: not one utterance of ten seconds fits; take more GPUs (--gpus) or a smaller model")
    chunk = f" model.encoder.fast.chunk={plan.chunk}" if plan.chunk else ""
    print(f"take: data.max_duration={int(min(plan.seconds, args.step_seconds / args.gpus))} train.accumulate={plan.accumulate} "
          f"train.activation_checkpointing={str(plan.checkpointing).lower()} train.precision=bf16{chunk}")


def _configuration(files: list[str], overrides: list[str]) -> Any:
    """Of files, or of one variant's name."""
    from omegaconf import OmegaConf

    from voxkit import config as configuration
    from voxkit.models.voxlm_variants import ALIASES, VARIANTS, get_config

    if len(files) == 1 and files[0] in {**VARIANTS, **ALIASES}:
        node = OmegaConf.create({"system": "voxlm", "model": OmegaConf.to_container(OmegaConf.structured(get_config(files[0])))})
        return configuration.merge(node, overrides)
    return configuration.overlay(files, overrides)
