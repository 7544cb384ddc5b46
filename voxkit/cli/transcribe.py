"""`voxkit transcribe`: audio files → text, or JSON with word times and confidences."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxkit.hypothesis import Hypothesis

HELP = "transcribe audio files"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("transcribe", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, exp/NAME for the newest run of that name, or an export directory")
    parser.add_argument("audio", nargs="+", help="files (wav, flac, mp3, ogg, opus ...), or features [T, F] as .npy")
    parser.add_argument("--method", default="greedy", help="as of `voxkit decode`: greedy, prefix_beam, rescoring, ...")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object per file, with words and times")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--int8", action="store_true", help="of an export directory: the quantised model")


def run(args: argparse.Namespace) -> int:
    transcribe = _exported(args) if (Path(args.checkpoint) / "model.onnx").is_file() else _trained(args)
    for path in args.audio:
        hypothesis = transcribe(path)
        print(json.dumps({"audio": path, **hypothesis.to_json()}, ensure_ascii=False) if args.json else f"{path}\t{hypothesis.text}")
    return 0


def _trained(args: argparse.Namespace) -> Callable[[str], Hypothesis]:
    from voxkit.infer.recognizer import Recognizer, SearchOptions

    if args.int8:
        raise ValueError(f"--int8: {args.checkpoint} is no export directory; make one with `voxkit export`")
    recognizer = Recognizer.load(args.checkpoint, args.device)
    return lambda path: recognizer.transcribe(path, SearchOptions(args.method, args.beam, words=args.json))


def _exported(args: argparse.Namespace) -> Callable[[str], Hypothesis]:
    from voxkit.runtime.onnx import OnnxRecognizer

    if args.method != "greedy":
        raise ValueError(f"--method {args.method}: an export directory holds the CTC part alone, which is searched greedily")
    return OnnxRecognizer(args.checkpoint, int8=args.int8, device=args.device).transcribe
