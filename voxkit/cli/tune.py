"""`voxkit tune`: choose the weights of the searches (language model, length bonus, CTC, phrases) on a development set, which goes through
the encoder once. `voxkit decode --tuned FILE` then takes for every method what was best for it; `voxkit tune --again FILE` repeats it."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "choose language model, CTC and phrase weights on a development set"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.again import add_again_argument
    from voxkit.cli.search_options import add_search_arguments, add_set_arguments

    parser = subparsers.add_parser("tune", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    add_again_argument(parser, "a tuning", "what tune writes, by default decode/tuned.json in a run")
    parser.add_argument("--set", help="prepared set, or path of cuts; name:0.25 is a quarter of one")
    parser.add_argument("--methods", nargs="+", default=[], help="searches to tune; greedy ones have a boost of phrases at most")
    _add_values(parser, "--ctc-weights", "W", "in joint, rescoring and a Paraformer's beam; --ctc-weight, and likewise the others, fixes "
                                              "it instead")
    _add_values(parser, "--lm-weights", "W", "where --lm is given")
    _add_values(parser, "--rescore-weights", "W", "where --rescore-lm is given")
    _add_values(parser, "--length-bonuses", "B", "per token, where --lm or --rescore-lm is given, but for a Paraformer's beam, where it "
                                                 "changes nothing")
    _add_values(parser, "--length-limits", "R", "in attention, and in joint where values are given")
    _add_values(parser, "--boosts", "B", "where --phrases is given")
    add_search_arguments(parser)
    add_set_arguments(parser, "decode/tuned.json in the run")


def _add_values(parser: argparse.ArgumentParser, option: str, metavar: str, where: str) -> None:
    from voxkit.experiments.settings import GRID

    values = " ".join(f"{value:g}" for value in GRID[option[2:].replace("-", "_")])
    parser.add_argument(option, nargs="+", type=float, metavar=metavar, help=f"tried {where} (by default {values})")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli.again import refuse_besides, say_whether_same
    from voxkit.experiments.tune import tune, tune_again

    def say(message: str) -> None:
        print(message, flush=True)

    if args.again:
        refuse_besides(args, add_parser, "tune", ("device", "data_dir", "out"))
        known, found, differing = tune_again(args.again, device=args.device, data_dir=args.data_dir, out=args.out, say=say)
        _show(found)
        return say_whether_same(known, differing, "the same weights")
    if not args.checkpoint or not args.set or not args.methods:
        raise ValueError("give a checkpoint, --set and --methods, or --again with the record of a tuning")
    _show(tune(_job(args), say))
    return 0


def _job(args: argparse.Namespace) -> Any:
    from voxkit.cli.search_options import job_fields, search_settings
    from voxkit.experiments.settings import COORDINATES
    from voxkit.experiments.tune import TuneJob

    return TuneJob(search=search_settings(args), values={name: tuple(values) for name in COORDINATES if (values := getattr(args, name))},
                   **job_fields(args, "checkpoint", "set", "methods", "data_dir", "normalize", "limit", "out", "device", "overrides"))


def _show(found: Any) -> None:
    from voxkit.eval.table import format_table

    record = found.record
    print(format_table([{"method": method, **{k: f"{v:g}" for k, v in best.items()}} for method, best in found.best.items()],
                       title=f"best on {record.job['set']} ({found.utterances} utterances)"))
    given = [f"--{name.replace('_', '-')}" for name in ("lm", "rescore_lm", "phrases") if record.job["search"][name]]
    print(f"{record.path}: hand it to `voxkit decode --tuned`" + (f" with {' and '.join(given)}" if given else ""))
