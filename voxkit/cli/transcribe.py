"""`voxkit transcribe`: audio files → text, or JSON with word times and confidences; with --stream as they would be heard live."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.hypothesis import Hypothesis

if TYPE_CHECKING:
    from voxkit.infer.streaming import StreamingRecognizer

HELP = "transcribe audio files"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.search_options import add_chunk_arguments, add_search_arguments, add_times_argument, add_tuned_argument

    parser = subparsers.add_parser("transcribe", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, exp/NAME for its newest run, or an artifact of `voxkit export`")
    parser.add_argument("audio", nargs="+", help="files (wav, flac, mp3, ogg, opus ...), or features [T, F] as .npy")
    parser.add_argument("--method", default="greedy", help="as of `voxkit decode`: greedy, prefix_beam, rescoring, ...")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    add_times_argument(parser)
    add_chunk_arguments(parser, "recognise the audio as it comes: every change of the text, with the seconds of audio heard until then, "
                                "and the final one (--json: a line for each; --format: changes go to stderr)",
                        "chunk of the encoder; -1, without --stream: without bound")
    parser.add_argument("--json", action="store_true", help="one JSON object per file, with words and times")
    parser.add_argument("--format", choices=["ctm", "srt", "vtt", "textgrid"], help="words and times in this format instead")
    parser.add_argument("--out", metavar="FOLDER", help="with --format: one file for each recording there, instead of printing")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli.transcribe_artifact import artifact_transcriber
    from voxkit.runtime.artifact import is_artifact

    _check_output(args)
    transcribe = artifact_transcriber(args, _shower(args)) if is_artifact(args.checkpoint) else _trained(args)
    failed = 0
    for path in args.audio:
        try:
            hypothesis = transcribe(path)
        except (ValueError, OSError) as error:  # of this file; those that follow may be good
            failed += 1
            print(f"{path}: {error}" if path not in str(error) else error, file=sys.stderr)
            continue
        _say(args, path, hypothesis)
    if failed and len(args.audio) > 1:
        print(f"{failed} of {len(args.audio)} files were not transcribed", file=sys.stderr)
    return 1 if failed else 0


def _say(args: argparse.Namespace, path: str, hypothesis: Hypothesis) -> None:
    from voxkit.align.formats import render, suffix, write

    stem = Path(path).stem
    if args.out:
        print(*write(Path(args.out) / f"{stem}.{suffix(args.format)}", {stem: hypothesis}, args.format))
    elif args.format:
        print(render(args.format, {stem: hypothesis}), end="")
    else:
        final = {"time": round(hypothesis.audio_duration, 3), "final": True} if args.stream else {}
        print(_json(path, hypothesis, **final) if args.json else f"{path}\t{hypothesis.text}")


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


def _trained(args: argparse.Namespace) -> Callable[[str], Hypothesis]:
    from voxkit.checkpoint.loading import decode_dir
    from voxkit.cli.search_options import build_search, check_streaming, read_chunk
    from voxkit.infer.calibration import calibration_of, read_calibration, timing_of
    from voxkit.infer.checkpoint import load_checkpoint
    from voxkit.infer.recognizer import Recognizer
    from voxkit.infer.streaming import StreamingRecognizer

    loaded = load_checkpoint(args.checkpoint, args.device)
    recognizer = Recognizer(loaded.model, loaded.tokenizer, args.device)
    if args.stream:
        check_streaming(args, recognizer, [args.method])
    chunk = read_chunk(args, recognizer)
    fitted = read_calibration(calibration_of(loaded.path))
    search = build_search(args, recognizer, loaded.recipe.config.decode, decode_dir(loaded.path), words=args.json or bool(args.format),
                          timing=timing_of(fitted))
    if chunk is not None:
        search.chunk = chunk.name(args.stream)
    search.check([args.method])
    known, why = search.fitted(fitted, args.method)
    if search.options.words and why:
        print(f"confidences are not calibrated: {why}", file=sys.stderr)
    options = search.of(args.method, temperature=known["temperature"] if known else 1.0)
    if args.stream:
        return _streamed(args, StreamingRecognizer(recognizer, options, chunk_ms=args.chunk_ms, left_ms=args.left_ms))
    return lambda path: recognizer.transcribe(path, options)


def _streamed(args: argparse.Namespace, stream: StreamingRecognizer) -> Callable[[str], Hypothesis]:
    """Recognise a file as if it were spoken now, and print each change of the text."""
    from voxkit.audio.io import read_audio
    from voxkit.infer.streaming import stream_recording

    show = _shower(args)

    def transcribe(path: str) -> Hypothesis:
        if path.endswith(".npy"):
            raise ValueError(f"{path} holds features, and --stream takes audio")
        hypothesis = Hypothesis("")
        for seconds, hypothesis, final in stream_recording(stream, read_audio(path)[0]):
            if final:
                break
            show(seconds, hypothesis, path)
        return hypothesis

    return transcribe


def _shower(args: argparse.Namespace) -> Callable[..., None]:
    """Prints a change of the text: (seconds of audio heard, the hypothesis, the path of the file)."""
    def show(seconds: float, hypothesis: Hypothesis, path: str = "") -> None:
        line = _json(path, hypothesis, time=round(seconds, 3), final=False) if args.json else f"{seconds:.2f}\t{hypothesis.text}"
        print(line, file=sys.stderr if args.format else sys.stdout, flush=True)

    return show
