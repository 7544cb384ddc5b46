"""Whole recognizers beside faster-whisper, audio in and text out, on the same clips and threads:

    python -m benchmarks.recognizers --models MODELS --audio CORPUS/LibriSpeech/test-clean-2 --work /tmp/recognizers

Contestants are KIND:ENCODER:PRECISION, ENCODER a Hugging Face folder below --models:

    faster-whisper  that Whisper converted for CTranslate2 (pip install 'voxkit[benchmarks]'), greedy, without time marks
    whisper         the same imported and exported (`voxkit import whisper`, `voxkit export`), greedy
    voxformer       a VoxFormer of egs/librispeech/voxformer/conf/mini.yaml on its encoder, greedy by CTC; its weights are random, so that
                    it has a time and no word error rate

What is missing below --work is made first. All hear one clip after the other in turns; the ratio to the first contestant is the median over
clips and rounds, of the processor's time and of the clock's. `--rounds 0` measures errors alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figures
from benchmarks.random_voxformer import random_voxformer
from voxkit.audio.decode import read_mono
from voxkit.eval.table import format_table
from voxkit.eval.wer import score
from voxkit.export.package import ExportOptions, export_checkpoint
from voxkit.export.parity import CheckUtterance
from voxkit.files import read_lines
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.pretrained_recognizer import import_whisper
from voxkit.optional import require
from voxkit.rate import RATE
from voxkit.runtime.recognizer import OnnxRecognizer

CONFIG = Path(__file__).resolve().parents[1] / "egs/librispeech/voxformer/conf/mini.yaml"
USUAL = ("faster-whisper:whisper-tiny.en:int8", "whisper:whisper-tiny.en:int8", "voxformer:whisper-tiny.en:int8",
         "voxformer:whisper-tiny.en:fp32", "voxformer:whisper-base:int8", "voxformer:whisper-base:fp32",
         "faster-whisper:whisper-base:int8", "whisper:whisper-base:int8")
Listen = Callable[[np.ndarray], str]


@dataclass
class Clip:
    """id, audio [S] at 16 kHz, and what is said."""

    id: str
    audio: np.ndarray
    text: str


@dataclass
class Measured:
    """Of one contestant: text of each clip; seconds by processor and clock of each clip and round."""

    texts: dict[str, str] = field(default_factory=dict)
    processor: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def read_clips(folder: Path, shortest: float, longest: float, count: int) -> list[Clip]:
    """Clips of a tree in LibriSpeech's layout that last so long, or so many of them at even distances.

    Raises:
        ValueError: none there.
    """
    texts = dict(line.split(" ", 1) for path in sorted(folder.rglob("*.trans.txt")) for line in read_lines(path) if " " in line)
    found = []
    for path in sorted(folder.rglob("*.flac")):
        if path.stem in texts:
            audio = read_mono(path)[0]
            if shortest <= len(audio) / RATE <= longest:
                found.append(Clip(path.stem, audio, texts[path.stem]))
    if not found:
        raise ValueError(f"{folder}: no clips of {shortest:g} to {longest:g} s with transcripts (*.flac, *.trans.txt)")
    return [found[i * len(found) // count] for i in range(count)] if 0 < count < len(found) else found


def faster_whisper(encoder: Path, precision: str, work: Path, threads: int) -> Listen:
    """The peer, its model converted once."""
    package = require("faster_whisper", "benchmarks", why="comparing with faster-whisper")
    folder = work / "faster-whisper" / encoder.name
    if not (folder / "model.bin").is_file():
        converters = require("ctranslate2.converters", "benchmarks", why="converting a Whisper")
        converters.TransformersConverter(str(encoder), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
            str(folder), quantization="float32", force=True)
    kind = {"fp32": "float32", "fp16": "float16"}.get(precision, precision)
    model = package.WhisperModel(str(folder), device="cpu", compute_type=kind, cpu_threads=threads)

    def listen(audio: np.ndarray) -> str:
        segments, _ = model.transcribe(audio, language="en", beam_size=1, temperature=0.0, without_timestamps=True,
                                       condition_on_previous_text=False)
        return " ".join(segment.text.strip() for segment in segments)

    return listen


def exported(kind: str, encoder: Path, precision: str, work: Path, threads: int, speech: Sequence[Clip]) -> Listen:
    """An artifact of ours, made once; INT8 looks at a few clips for what bears it."""
    folder = work / f"{kind}-{encoder.name}-{precision}"
    if not (folder / "meta.json").is_file():
        run = work / f"{kind}-{encoder.name}"
        if not (run / "checkpoints" / "latest").is_file():
            if kind == "whisper":
                import_whisper(encoder, run, "auto" if encoder.name.endswith(".en") else "en")
            else:
                random_voxformer(CONFIG, encoder, run)
        heard = [CheckUtterance(clip.id, clip.audio) for clip in speech[:4]]
        target, report = export_checkpoint(load_checkpoint(run), folder, heard, ExportOptions(precision, decoder=kind == "whisper"))
        if report.problems:
            raise ValueError(f"{target}: {'; '.join(report.problems)}")
    recognizer = OnnxRecognizer(folder, threads=threads)
    return lambda audio: recognizer.transcribe(audio).text


def open_contestant(name: str, models: Path, work: Path, threads: int, speech: Sequence[Clip]) -> Listen:
    """KIND:ENCODER:PRECISION → what listens.

    Raises:
        ValueError: no such contestant.
    """
    kind, encoder, precision = (*name.split(":"), "", "")[:3]
    if kind not in ("faster-whisper", "whisper", "voxformer") or precision not in ("fp32", "fp16", "int8"):
        raise ValueError(f"{name!r} is no contestant: KIND:ENCODER:PRECISION, e.g. {USUAL[1]}")
    if kind == "faster-whisper":
        return faster_whisper(models / encoder, precision, work, threads)
    return exported(kind, models / encoder, precision, work, threads, speech)


def race(contestants: dict[str, Listen], clips: Sequence[Clip], rounds: int) -> dict[str, Measured]:
    """All hear every clip once for its text, which warms them up too, and then in turns."""
    found = {name: Measured() for name in contestants}
    for clip in clips:
        for name, listen in contestants.items():
            found[name].texts[clip.id] = listen(clip.audio)
    for _ in range(rounds):
        for clip in clips:
            for name, listen in contestants.items():
                wall, processor = time.perf_counter(), time.process_time()
                listen(clip.audio)
                found[name].wall.append(time.perf_counter() - wall)
                found[name].processor.append(time.process_time() - processor)
    return found


def table(found: dict[str, Measured], clips: Sequence[Clip], threads: int, rounds: int, figures: Figures) -> list[dict[str, Any]]:
    """A row for each contestant; ratios are to the first."""
    seconds = [len(clip.audio) / RATE for clip in clips] * rounds
    first, rows = next(iter(found.values())), []
    references = {clip.id: clip.text for clip in clips}
    for name, own in found.items():
        row: dict[str, Any] = {"threads": threads, "recognizer": name}
        if rounds:
            for what, ones, others in (("CPU", own.processor, first.processor), ("wall", own.wall, first.wall)):
                ratios = [other / one for one, other in zip(ones, others)]
                row |= {f"RTF, {what}": f"{statistics.median(one / length for one, length in zip(ones, seconds)):.4f}",
                        f"× {what}": f"{statistics.median(ratios):.2f}"}
                figures.add(f"{name}, {threads} thread(s), {what}", ratios)
        if name.startswith("voxformer"):
            row |= {"WER": "random weights", "95 %": ""}
        else:
            result = score(references, own.texts, normalize="whisper-english")
            low, high = result.interval(samples=2000) or (result.rate, result.rate)
            row |= {"WER": f"{100 * result.rate:.2f}", "95 %": f"{100 * low:.2f}-{100 * high:.2f}"}
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestants", nargs="*", default=list(USUAL), metavar="KIND:ENCODER:PRECISION")
    parser.add_argument("--models", required=True, type=Path)
    parser.add_argument("--audio", required=True, type=Path, help="a tree in LibriSpeech's layout")
    parser.add_argument("--work", required=True, type=Path, help="folder for what is converted and exported")
    parser.add_argument("--clips", type=int, default=12, help="so many of them, spread over the tree; 0: all (default: 12)")
    parser.add_argument("--seconds", type=float, nargs=2, default=(5.0, 15.0), metavar=("LEAST", "MOST"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    Figures.add_argument(parser)
    args = parser.parse_args(argv)
    clips, figures = read_clips(args.audio, *args.seconds, args.clips), Figures("recognizers", args.json)
    words = sum(len(clip.text.split()) for clip in clips)
    print(f"{len(clips)} clips of {args.audio.name}, {sum(len(c.audio) for c in clips) / RATE:.0f} s, {words} words, {args.rounds} rounds")
    for threads in args.threads:
        opened = {name: open_contestant(name, args.models, args.work, threads, clips) for name in args.contestants}
        print(format_table(table(race(opened, clips, args.rounds), clips, threads, args.rounds, figures)), flush=True)


if __name__ == "__main__":
    main()
