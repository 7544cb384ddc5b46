"""`voxkit benchmark`: real-time factor, delays, memory and size of an artifact on this machine; needs no torch."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

HELP = "how fast an artifact is on this machine"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("benchmark", help=HELP, description=__doc__)
    parser.add_argument("artifact", help="a directory that `voxkit export` wrote; a streaming one is measured as audio that is spoken now")
    parser.add_argument("--audio", required=True, metavar="FOLDER", help="its audio files are heard, one after the other")
    parser.add_argument("--words", metavar="FILE", help="when the words of these files were said, for the delays of a stream: a CTM, or "
                                                        "cuts with word alignments (.jsonl.gz); by default as the artifact times them")
    parser.add_argument("--files", type=int, default=0, help="so many of them at most, spread over the folder (default: all)")
    parser.add_argument("--method", default="greedy", help="as of `voxkit transcribe`")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime (default: 1)")
    parser.add_argument("--silence", type=float, default=0.25, help="seconds of it that end an utterance of a stream (default: 0.25)")
    parser.add_argument("--json", action="store_true", help="the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    from voxkit.runtime.benchmark import measure, read_folder
    from voxkit.runtime.endpoint import Endpointing
    from voxkit.runtime.recognizer import SearchOptions
    from voxkit.runtime.word_times import read_word_times

    if args.threads < 1 or args.files < 0:
        raise ValueError("--threads is at least 1, --files at least 0")
    speed = measure(args.artifact, read_folder(args.audio, args.files), SearchOptions(args.method), args.threads,
                    Endpointing(silence=args.silence), read_word_times(args.words) if args.words else None, args.words or "")
    if args.json:
        print(json.dumps(asdict(speed)))
        return 0
    width = max(len(str(row["what"])) for row in speed.rows())
    print("\n".join(f"{row['what']:<{width}}  {row['measured']}" for row in speed.rows()))
    return 0
