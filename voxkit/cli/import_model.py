"""`voxkit import`: a pretrained model that recognizes without training, as a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "a pretrained Whisper → a checkpoint that needs no training"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("import", help=HELP, description=__doc__)
    parser.add_argument("kind", choices=("whisper",), help="what it is")
    parser.add_argument("source", help="a Hugging Face folder or name, e.g. openai/whisper-base")
    parser.add_argument("--out", required=True, type=Path, help="the run's directory, e.g. exp/whisper-base")
    parser.add_argument("--language", default="auto", help="of what is said: en, de, ...; auto (default) finds it out for every utterance")
    parser.add_argument("--task", choices=("transcribe", "translate"), default="transcribe", help="translate: into English")


def run(args: argparse.Namespace) -> int:
    from voxkit.infer.pretrained_recognizer import import_whisper

    checkpoint = import_whisper(args.source, args.out, args.language, args.task)
    print(f"imported: {checkpoint}\ntry it: voxkit transcribe {args.out} AUDIO")
    return 0
