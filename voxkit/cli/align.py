"""`voxkit align`: word times for audio or features and their text, by forced alignment with a CTC head or a transducer, by the decoder's
cross-attention or by Whisper; JSON, CTM, SRT, WebVTT or TextGrid, or cuts that know their word times."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable

HELP = "word times for audio or features and their text"


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser("align", help=HELP, description=__doc__)
    p.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name; with --method whisper a Whisper")
    p.add_argument("--method", default="auto", choices=["auto", "ctc", "transducer", "head", "attention", "whisper"],
                   help="auto (default): ctc, of an imported Whisper attention; ctc, transducer: forced alignment by that head; head: the "
                        "alignment head of a VoxLM; attention, whisper: cross-attention and DTW of our decoder, of a Whisper model")
    p.add_argument("--audio", nargs="+", default=[], help="audio files, or features [T, F] as .npy")
    p.add_argument("--text", help="the text of one audio file, or a file of id<TAB>text; ids are the audio files' names without suffix")
    p.add_argument("--cuts", help="lhotse cuts with audio or features, and text, instead of --audio and --text")
    p.add_argument("--normalize", default="none", help="text rule before tokenizing: none, lower, librispeech")
    p.add_argument("--out", help="file; its suffix names the format: .json, .ctm, .srt, .vtt, .TextGrid (default: JSON on the screen)")
    p.add_argument("--format", help="json, ctm, srt, vtt or textgrid, where the suffix does not say")
    p.add_argument("--start-shift", type=float, help="seconds added to word starts; by default what `voxkit decode --calibrate` found")
    p.add_argument("--end-shift", type=float, help="seconds added to word ends; likewise")
    p.add_argument("--limit", type=int, default=0, help="only the first of --cuts")
    p.add_argument("--out-cuts", help="write --cuts that could be aligned with their word times: what decode and score measure against")
    p.add_argument("--device", default="cpu")


def run(args: argparse.Namespace, load: Callable[[str, str], Any] | None = None) -> int:
    """Align and print; `load` as of `voxkit.experiments.align.align`."""
    from voxkit.align.formats import render, write
    from voxkit.cli.search_options import job_fields
    from voxkit.experiments.align import AlignJob, align

    job = AlignJob(**job_fields(args, "checkpoint", "method", "audio", "text", "cuts", "normalize", "start_shift", "end_shift", "limit",
                                "out_cuts", "device"))
    found = align(job, lambda message: print(message, file=sys.stderr), load)
    for id, why in found.failures.items():
        print(f"{id}: {why}", file=sys.stderr)
    if args.out_cuts:
        print(f"{len(found.hypotheses)} of {found.total} utterances aligned: {args.out_cuts}")
    if args.out:
        files = write(args.out, found.hypotheses, args.format)
        print(f"{len(found.hypotheses)} of {found.total} utterances aligned: {files[0]}{' ...' if len(files) > 1 else ''}")
    elif not args.out_cuts:
        print(render(args.format or "json", found.hypotheses), end="")
    return 1 if found.failures else 0
