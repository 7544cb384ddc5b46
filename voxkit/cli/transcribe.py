"""`voxkit transcribe`: audio files → text, or JSON with word times and confidences; with --stream as they would be heard live."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from voxkit.hypothesis import Hypothesis
from voxkit.text.intents import CONFIDENCE, Matcher

HELP = "transcribe audio files"
Heard = tuple[float, Hypothesis, bool]  # seconds of audio heard, what was recognized until then, whether it is final


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.search_options import add_chunk_arguments, add_search_arguments, add_times_argument, add_tuned_argument

    parser = subparsers.add_parser("transcribe", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, exp/NAME for its newest run, or an artifact of `voxkit export`; omitted "
                                           "with --config")
    parser.add_argument("audio", nargs="*", help="files (wav, flac, mp3, ogg, opus ...), or features [T, F] as .npy")
    parser.add_argument("--config", metavar="FILE", help="models, searches and endpoints as this file says (docs/export.md), in place of a "
                                                         "checkpoint and the options of searches")
    parser.add_argument("--method", default="greedy", help="as of `voxkit decode`: greedy, prefix_beam, rescoring, ...")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    add_times_argument(parser)
    add_chunk_arguments(parser, "recognize the audio as it comes: every change of the text, with the seconds of audio heard until then, "
                                "and the final one (--json: a line for each; --format: changes go to stderr)",
                        "chunk of the encoder; -1, without --stream: without bound")
    parser.add_argument("--json", action="store_true", help="one JSON object per file, with words and times")
    parser.add_argument("--commands", metavar="PACK", help="answer what is meant by this pack (file, or name of a built-in one): intent, "
                                                           "slots and confidence, or nothing")
    parser.add_argument("--command-confidence", type=float, default=CONFIDENCE, metavar="P",
                        help=f"with --commands: nothing is answered below it (default {CONFIDENCE})")
    parser.add_argument("--format", choices=["ctm", "srt", "vtt", "textgrid"], help="words and times in this format instead")
    parser.add_argument("--out", metavar="FOLDER", help="with --format: one file for each recording there, instead of printing")
    parser.add_argument("--state", metavar="FILE", help="of a model that adapts: begin with what `voxkit adapt` made of this speaker")
    parser.add_argument("--save-state", metavar="FILE", help="likewise: write what was learned by the end of the files")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    if args.config:
        args.audio.insert(0, args.checkpoint)
    if not args.audio:
        raise ValueError(f"give audio files behind {args.checkpoint}")
    _check_output(args)
    matcher = _matcher(args)
    transcribe = _configured(args) if args.config else _transcriber(args)
    failed = 0
    for path in args.audio:
        try:
            hypothesis = _changes(args, path, transcribe(path))
        except (ValueError, OSError) as error:  # of this file; those that follow may be good
            failed += 1
            print(error if path in str(error) else f"{path}: {error}", file=sys.stderr)
            continue
        _say(args, path, hypothesis, matcher)
    if failed and len(args.audio) > 1:
        print(f"{failed} of {len(args.audio)} files were not transcribed", file=sys.stderr)
    return 1 if failed else 0


def _transcriber(args: argparse.Namespace) -> Callable[[str], Iterator[Heard]]:
    from voxkit.cli.search_options import job_fields, search_settings
    from voxkit.experiments.transcribe import TranscribeJob, transcriber

    job = TranscribeJob(search=search_settings(args), words=args.json or bool(args.format),
                        **job_fields(args, "checkpoint", "method", "stream", "chunk_ms", "left_ms", "device", "state", "save_state"))
    return transcriber(job, lambda message: print(message, file=sys.stderr))


def _configured(args: argparse.Namespace) -> Callable[[str], Iterator[Heard]]:
    """By a file of options.

    Raises:
        ValueError: options beside it that it would have to say.
    """
    from voxkit.cli.search_options import refuse_beside_config
    from voxkit.experiments.pipeline import open_pipeline
    from voxkit.experiments.transcribe import by_pipeline

    refuse_beside_config(args, {"chunk_ms": None, "left_ms": None, "state": None, "save_state": None, "method": "greedy", "device": "cpu"})
    return by_pipeline(open_pipeline(args.config), args.stream)


def _changes(args: argparse.Namespace, path: str, heard: Iterator[tuple[float, Hypothesis, bool]]) -> Hypothesis:
    """Print each change of the text → the final one."""
    hypothesis = Hypothesis("")
    for seconds, hypothesis, final in heard:
        if final:
            break
        line = _json(path, hypothesis, time=round(seconds, 3), final=False) if args.json else f"{seconds:.2f}\t{hypothesis.text}"
        print(line, file=sys.stderr if args.format else sys.stdout, flush=True)
    return hypothesis


def _matcher(args: argparse.Namespace) -> Matcher | None:
    if not args.commands:
        return None
    from voxkit.text.pack import load_pack

    if args.format:
        raise ValueError(f"--commands: an answer has no place in --format {args.format}; use --json, or leave --format out")
    return Matcher(load_pack(args.commands), args.command_confidence)


def _say(args: argparse.Namespace, path: str, hypothesis: Hypothesis, matcher: Matcher | None = None) -> None:
    from voxkit.align.formats import render, suffix, write

    stem = Path(path).stem
    if args.out:
        print(*write(Path(args.out) / f"{stem}.{suffix(args.format)}", {stem: hypothesis}, args.format))
    elif args.format:
        print(render(args.format, {stem: hypothesis}), end="")
    else:
        final = {"time": round(hypothesis.audio_duration, 3), "final": True} if args.stream else {}
        answer = matcher.answer(hypothesis) if matcher else None
        told = {"command": answer.to_json() if answer else None} if matcher else {}
        meant = f"\t{json.dumps(told['command'], ensure_ascii=False)}" if told else ""
        print(_json(path, hypothesis, **final, **told) if args.json else f"{path}\t{hypothesis.text}{meant}")


def _json(path: str, hypothesis: Hypothesis, **more: Any) -> str:
    return json.dumps({"audio": path, **more, **hypothesis.to_json()}, ensure_ascii=False)


def _check_output(args: argparse.Namespace) -> None:
    """
    Raises:
        ValueError: what is to be written has no form, or no place of its own.
    """
    from voxkit.align.formats import ONE_RECORDING

    if args.out and not args.format:
        raise ValueError("--out: say with --format what is to be written there")
    if args.out:
        stems = [Path(path).stem for path in args.audio]
        if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
            raise ValueError(f"--out {args.out}: two of the files are called {twice} and would have one output; transcribe them one by one")
    elif args.format in ONE_RECORDING and len(args.audio) > 1:
        raise ValueError(f"--format {args.format} describes one recording, and {len(args.audio)} were given: add --out FOLDER, which gets "
                         "a file for each")
