"""`voxkit transcribe`: audio files → text, or JSON with word times and confidences."""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = "transcribe audio files"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("transcribe", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("audio", nargs="+", help="files (wav, flac, mp3, ogg, opus ...)")
    parser.add_argument("--method", default="greedy", help="greedy, prefix_beam, attention, joint, rescoring")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object per file, with words and times")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    from voxkit.infer.recognizer import Recognizer, SearchOptions

    recognizer = Recognizer.load(args.checkpoint, args.device)
    for path in args.audio:
        hypothesis = recognizer.transcribe(path, SearchOptions(args.method, args.beam, words=args.json))
        print(json.dumps({"audio": path, **hypothesis.to_json()}, ensure_ascii=False) if args.json else f"{path}\t{hypothesis.text}")
    return 0
