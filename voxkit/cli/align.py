"""`voxkit align`: word times for audio or features and their text, by CTC forced alignment, by the decoder's cross-attention or by
Whisper; JSON, CTM, SRT, WebVTT or TextGrid, or cuts that know their word times."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser("align", help="word times for audio or features and their text", description=__doc__)
    p.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name; with --method whisper a Whisper")
    p.add_argument("--method", default="ctc", choices=["ctc", "attention", "whisper"],
                   help="ctc: forced alignment; attention, whisper: cross-attention and DTW of our decoder, of a Whisper model")
    p.add_argument("--audio", nargs="+", default=[], help="audio files, or features [T, F] as .npy")
    p.add_argument("--text", help="the text of one audio file, or a file of id<TAB>text; ids are the audio files' names without suffix")
    p.add_argument("--cuts", help="lhotse cuts with audio or features, and text, instead of --audio and --text")
    p.add_argument("--normalise", default="none", help="text rule before tokenizing: none, lower, librispeech")
    p.add_argument("--out", help="file; its suffix names the format: .json, .ctm, .srt, .vtt, .TextGrid (default: JSON on the screen)")
    p.add_argument("--format", help="json, ctm, srt, vtt or textgrid, where the suffix does not say")
    p.add_argument("--start-shift", type=float, help="seconds added to word starts; by default what `voxkit decode --calibrate` found")
    p.add_argument("--end-shift", type=float, help="seconds added to word ends; likewise")
    p.add_argument("--limit", type=int, default=0, help="only the first of --cuts")
    p.add_argument("--out-cuts", help="write --cuts that could be aligned with their word times: what decode and score measure against")
    p.add_argument("--device", default="cpu")


def run(args: argparse.Namespace, load: Callable[[str, str], Any] | None = None) -> int:
    """Align.

    Args:
        load: (checkpoint, device) → object with `model` (`encode`, `ctc_log_probs`, `seconds_per_frame`) and `tokenizer`;
            by default `Recognizer.load`.
    """
    from voxkit.align.formats import render, write
    from voxkit.align.timing import WordTiming
    from voxkit.eval.normalise import normalisation

    rule = normalisation(args.normalise)
    if args.out_cuts and not args.cuts:
        raise ValueError("--out-cuts needs --cuts: it writes those again, with word times")
    items = list(_items(args))[: args.limit or None]
    align_this = _aligner(args, load, items, rule)
    fitted = args.method == "ctc" and args.start_shift is None and args.end_shift is None and load is None
    kept = _kept_timing(args.checkpoint) if fitted else None
    timing = kept or WordTiming(args.start_shift or 0.0, args.end_shift or 0.0)
    if fitted and kept is None:
        print("word times are not fitted, they are where CTC spikes: `voxkit decode RUN --calibrate SET`, with a set that knows them, "
              "brings them to the words", file=sys.stderr)
    hypotheses, failed = {}, []
    for id, text, source in items:
        try:
            hypotheses[id] = align_this(rule(text), source, timing)
        except ValueError as error:
            failed.append(id)
            print(f"{id}: {error}", file=sys.stderr)
    if not hypotheses:
        raise ValueError(f"none of {len(items)} utterances could be aligned")
    if args.out_cuts:
        _write_cuts(args.cuts, args.out_cuts, hypotheses)
        print(f"{len(hypotheses)} of {len(items)} utterances aligned: {args.out_cuts}")
    if args.out:
        files = write(args.out, hypotheses, args.format)
        print(f"{len(hypotheses)} of {len(items)} utterances aligned: {files[0]}{' ...' if len(files) > 1 else ''}")
    elif not args.out_cuts:
        print(render(args.format or "json", hypotheses), end="")
    return 1 if failed else 0


@dataclass
class Source:
    """Where an utterance is: in a file of audio, in a .npy file of features, or in a cut, which begins `start` seconds into its recording."""

    path: str
    start: float = 0.0
    cut: Any = None

    def wave(self) -> Any:
        """[S] at 16 kHz, of a cut what training hears of it: its channel, its speed.

        Raises:
            ValueError: it cannot be read, or is features.
        """
        import torch

        from voxkit.audio.io import read_audio
        from voxkit.data.reader import load_samples

        if self.cut is None and not self.path.endswith(".npy"):
            return read_audio(self.path)[0]
        if self.cut is None or not self.cut.has_recording:
            raise ValueError(f"{self.path}: features, where attention and Whisper need audio; use --method ctc")
        return torch.from_numpy(load_samples(self.cut))

    def batch(self) -> Any:
        """A Batch of one, of audio or features."""
        import torch

        from voxkit.batch import Batch, Padded
        from voxkit.data.reader import load_features
        from voxkit.infer.recognizer import read_input

        if self.cut is not None and not self.cut.has_recording:
            return Batch([self.path], features=Padded.of([torch.from_numpy(load_features(self.cut))]))
        return read_input(self.path if self.path.endswith(".npy") else self.wave())


def _aligner(args: argparse.Namespace, load: Callable[[str, str], Any] | None, items: list[Any], rule: Any) -> Callable[..., Any]:
    """(text, source, timing) → Hypothesis, by the method asked for."""
    from voxkit.audio.io import AudioError

    if args.method == "whisper":
        from voxkit.infer.attention_times import WhisperAligner

        _refuse_own(args.checkpoint)
        aligner: Any = WhisperAligner(args.checkpoint, args.device)
    else:
        recognizer = load(args.checkpoint, args.device) if load is not None else _load(args.checkpoint, args.device)
        if args.method == "ctc":
            from voxkit.infer.alignment import align_utterance

            return lambda text, source, timing: align_utterance(recognizer, source.batch(), text, timing, offset=source.start)
        from voxkit.infer.attention_times import AttentionAligner

        aligner = AttentionAligner(recognizer)
        examples = []
        for _, text, source in items[:16]:
            with suppress(AudioError):  # said where it is aligned
                examples.append((source.wave(), rule(text)))
        heads = aligner.choose(examples)
        print(f"heads (layer, head): {', '.join(map(str, heads))}", file=sys.stderr)
    return lambda text, source, timing: aligner.align(source.wave(), text, timing, source.start)


def _refuse_own(name: str) -> None:
    """The hub would be asked for a run of ours by its name, which looks like that of a model there."""
    from voxkit.checkpoint.runs import latest_run

    path = Path(name)
    run = path if path.exists() else latest_run(path.parent, path.name)
    if run is not None and ((run / "meta.json").is_file() or (run / "checkpoints").is_dir()):
        raise ValueError(f"{name}: a run or checkpoint of voxkit, and --method whisper takes a Whisper model, by folder or Hugging Face "
                         "name; give one, or use --method ctc or attention")


def _write_cuts(source: str, out: str, hypotheses: dict[str, Any]) -> None:
    from lhotse import CutSet
    from lhotse.supervision import AlignmentItem

    from voxkit.data.manifests import load_cuts, save_cuts

    kept = []
    for cut in load_cuts(source):
        if cut.id in hypotheses:
            items = [AlignmentItem(w.word, round(w.start, 4), round(w.end - w.start, 4), round(w.confidence, 4))
                     for w in hypotheses[cut.id].words]
            cut.supervisions[0].alignment = {"word": items}
            kept.append(cut)
    save_cuts(CutSet.from_cuts(kept), out)


def _kept_timing(checkpoint: str) -> Any:
    """Shifts that were fitted for this run, or None."""
    from voxkit.checkpoint.loading import find_checkpoint
    from voxkit.infer.calibration import calibration_of, read_calibration, timing_of

    return timing_of(read_calibration(calibration_of(find_checkpoint(checkpoint))))


def _load(checkpoint: str, device: str) -> Any:
    from voxkit.infer.recognizer import Recognizer

    return Recognizer.load(checkpoint, device)


def _items(args: argparse.Namespace) -> Iterator[tuple[str, str, Source]]:
    """(id, text, source) of what is to be aligned."""
    from voxkit.eval.texts import read_texts

    if bool(args.cuts) == bool(args.audio):
        raise ValueError("give either --cuts, or --audio with --text")
    if args.cuts:
        yield from _cuts(args.cuts)
        return
    if not args.text:
        raise ValueError("--audio needs --text: the text itself, or a file of id<TAB>text")
    if not _is_file(args.text):
        if len(args.audio) > 1:
            raise ValueError(f"--text {args.text!r} is no file, and one text cannot be that of {len(args.audio)} audio files")
        yield Path(args.audio[0]).stem, args.text, Source(args.audio[0])
        return
    texts = read_texts(args.text).texts
    for path in args.audio:
        if Path(path).stem not in texts:
            raise ValueError(f"{args.text}: no text for {Path(path).stem} ({path})")
        yield Path(path).stem, texts[Path(path).stem], Source(path)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # a text is longer than the name of a file may be
        return False


def _cuts(path: str) -> Iterator[tuple[str, str, Source]]:
    from voxkit.data.manifests import load_cuts
    from voxkit.eval.texts import read_texts

    texts = read_texts(path).texts
    for cut in load_cuts(path):
        if not cut.has_recording and not cut.has_features:
            raise ValueError(f"{path}: cut {cut.id} has neither an audio file nor features")
        yield cut.id, texts[cut.id], Source(cut.id, getattr(cut, "start", 0.0), cut)
