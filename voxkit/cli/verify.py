"""`voxkit verify`: a checkpoint and what was exported of it hear the same utterances: all texts must be equal, or it fails.

Exports in fp16 and int8 may say something else as long as the word error rate rises by --max-wer-increase at most; without transcripts they
are not judged, and it fails too.

    voxkit verify exp/stage3 exp/onnx exp/int8 --sets test --utterances 50
    voxkit verify exp/streaming exp/live exp/sherpa --sets test --utterances 50
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HELP = "a checkpoint and its exports hear the same utterances: are all texts equal?"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("verify", help=HELP, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("exported", nargs="+", type=Path, help="artifacts of `voxkit export`, and its directories for sherpa-onnx")
    parser.add_argument("--sets", nargs="+", metavar="SET", required=True, help="prepared sets, best of speech that was not trained on")
    parser.add_argument("--data-dir", help="where they are; by default as in training")
    parser.add_argument("--utterances", type=int, help="so many of them at most, spread over the sets (default: all)")
    parser.add_argument("--method", default="greedy",
                        help="of the search (default: greedy; sherpa-onnx's transducers always: transducer_greedy)")
    parser.add_argument("--threads", type=int, default=1, help="of each engine (default: 1)")
    parser.add_argument("--max-wer-increase", type=float, default=0.5, help="of fp16 and int8, absolute, in percent (default: 0.5)")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.export.speech import read_utterances
    from voxkit.export.verify import verify
    from voxkit.infer.checkpoint import load_checkpoint

    if args.threads < 1:
        raise ValueError(f"--threads {args.threads}: at least 1")
    loaded = load_checkpoint(args.checkpoint, "cpu")
    heard = read_utterances(args.data_dir or loaded.setup.config.data.data_dir, args.sets, args.utterances)
    found = verify(loaded, args.exported, heard, method=args.method, threads=args.threads, max_wer_increase=args.max_wer_increase / 100)
    problems = [problem for one in found for problem in one.problems]
    unjudged = [name for one in found for name in one.unjudged]
    for one in found:
        print(format_table(one.rows(), title=f"{one.title}: {loaded.path}, {', '.join(args.sets)}, {one.seconds:.0f} s, "
                                             f"{args.threads} thread(s)"))
    if problems:
        print("\n".join(["voxkit verify: they do not agree:", *(f"  {problem}" for problem in problems)]), file=sys.stderr)
        return 1
    if unjudged:
        print(f"voxkit verify: not judged: no transcripts: {'; '.join(unjudged)}: name --sets with transcripts", file=sys.stderr)
        return 1
    print("verified: all texts are equal where they must be")
    return 0
