"""`voxkit hallucinate`: what a checkpoint says where nobody speaks, in words per minute: on silence and noises made on the spot, and on the
recordings of a folder (each subfolder is a condition)."""

from __future__ import annotations

import argparse
import json
import time
from itertools import chain
from pathlib import Path
from typing import Any

HELP = "words per minute where nobody speaks"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.search_options import add_search_arguments, add_tuned_argument

    parser = subparsers.add_parser("hallucinate", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("--folders", nargs="*", default=[], help="recordings without speech, besides what is made")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each condition")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a clip")
    parser.add_argument("--methods", nargs="+", default=None, help="greedy, prefix_beam, attention, joint, rescoring")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    parser.add_argument("--out", help="by default decode/ in the run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    from voxkit import config as configuration
    from voxkit.cli.search_options import build_search
    from voxkit.eval.table import append_csv, format_table
    from voxkit.infer.checkpoint import decode_dir, load_checkpoint
    from voxkit.infer.nonspeech import folder_clips, hallucinations, made_clips
    from voxkit.infer.recognizer import Recognizer
    from voxkit.train.distributed import choose_device

    if args.minutes <= 0 or args.seconds <= 0:
        raise ValueError("--minutes and --seconds must be above 0")
    device = choose_device(args.device)
    loaded = load_checkpoint(args.checkpoint, device, args.overrides)
    recognizer = Recognizer(loaded.model, loaded.tokenizer, device)
    search = build_search(args, recognizer, loaded.recipe.config.decode, decode_dir(loaded.path))
    out = Path(args.out) if args.out else decode_dir(loaded.path)
    rows = []
    methods = args.methods or [loaded.recipe.config.decode.method]
    search.check(methods)
    for method in methods:
        clips = chain(made_clips(args.minutes, args.seconds), *(folder_clips(f, args.minutes, args.seconds) for f in args.folders))
        found = hallucinations(recognizer, clips, search.of(method))
        label = search.label(method)
        for condition, h in found.items():
            rows.append({"method": label, "condition": condition, "minutes": f"{h.seconds / 60:.1f}", "clips": h.clips,
                         "with words": h.speaking, "words": h.words, "words/min": f"{h.per_minute:.2f}"})
            append_csv(out / "hallucination.csv", {"date": time.strftime("%Y-%m-%d %H:%M:%S"), **rows[-1], "checkpoint": str(loaded.path)})
        said = [{"id": id, "text": text} for id, text in found["all"].said.items()]
        configuration.write_text(out / f"hallucination_{label}.jsonl", "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in said))
    print(format_table(rows, title=str(loaded.path)))
    print(f"what was said, and hallucination.csv: {out}")
    return 0
