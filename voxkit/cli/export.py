"""`voxkit export`: a checkpoint → ONNX and INT8, kept only if they give the model's scores and text on real speech."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HELP = "a checkpoint → ONNX and INT8, checked against it"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("export", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("--out", required=True, type=Path, help="the export directory")
    parser.add_argument("--int8", action=argparse.BooleanOptionalAction, default=True, help="quantise too (default)")
    parser.add_argument("--int8-bits", type=int, choices=(7, 8), default=7,
                        help="of INT8 weights: 7 overflow on no CPU (default); 8 are finer, and overflow on an x86 without VNNI")
    parser.add_argument("--check", nargs="+", metavar="SET", default=[], help="prepared sets to compare on; none: noise, scores only")
    parser.add_argument("--data-dir", help="where they are; by default as in training")
    parser.add_argument("--utterances", type=int, default=20, help="how many of them, spread over the sets (default: 20)")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of log-probabilities in float32 (default: 0.001)")
    parser.add_argument("--max-wer-increase", type=float, default=1.0, help="of INT8, absolute, in percent (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="of each engine while speeds are compared (default: 1)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.export.package import export_checkpoint
    from voxkit.export.parity import GateOptions
    from voxkit.infer.checkpoint import load_checkpoint

    loaded = load_checkpoint(args.checkpoint, "cpu", args.overrides)
    if hasattr(loaded.model, "predict"):
        raise ValueError(f"{loaded.path}: a model with a parallel decoder cannot be exported yet; serve it with `voxkit serve`")
    data_dir = args.data_dir or loaded.recipe.config.data.data_dir
    heard = _utterances(data_dir, args.check, args.utterances) if args.check else []
    options = GateOptions(args.tolerance, args.max_wer_increase / 100, args.threads)
    target, report = export_checkpoint(loaded, args.out, heard, int8=args.int8, int8_bits=args.int8_bits, options=options)
    on = f"{report.utterances} utterances of {', '.join(args.check)}" if heard else "noise (give --check SET for text and WER)"
    print(format_table(report.rows(), title=f"{loaded.path} on {on}, {report.seconds:.0f} s, {report.threads} thread(s)"))
    if len(heard) > report.utterances:
        print(f"left out, longer than the model takes: {len(heard) - report.utterances} of {len(heard)} utterances")
    if report.problems:
        print("\n".join(["voxkit export: the gate failed:", *(f"  {problem}" for problem in report.problems), f"  files: {target}"]),
              file=sys.stderr)
        return 1
    print(f"exported: {target}")
    return 0


def _utterances(data_dir: str, sets: list[str], count: int) -> list[Any]:
    """So many of the sets, at even distances."""
    from voxkit.data.sets import read_sets
    from voxkit.export.parity import Utterance

    if count < 1:
        raise ValueError(f"--utterances {count}: at least 1")
    cuts = list(read_sets(data_dir, sets))
    if not cuts:
        raise ValueError(f"no utterances in {', '.join(sets)} of {data_dir}")
    chosen = [cuts[i * len(cuts) // count] for i in range(count)] if len(cuts) > count else cuts
    return [Utterance(c.id, c.resample(16000).load_audio()[0], c.supervisions[0].text or "" if c.supervisions else "") for c in chosen]
