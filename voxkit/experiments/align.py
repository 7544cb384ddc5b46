"""Word times for audio or features and their text, by CTC forced alignment, by our decoder's cross-attention, or by Whisper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxkit.align.timing import WordTiming
from voxkit.audio.decode import AudioError
from voxkit.eval.normalize import normalization
from voxkit.eval.texts import read_texts
from voxkit.experiments.search import Say, silent
from voxkit.hypothesis import Hypothesis

METHODS = ("auto", "ctc", "transducer", "head", "attention", "whisper")


@dataclass(frozen=True)
class AlignJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME for the newest run of that name; with method "whisper" a Whisper model.
    method: "auto": ctc, or attention where there is no CTC head and the decoder's heads are known (an imported Whisper); "ctc",
        "transducer": forced alignment by that head; "head": the alignment head of a VoxLM; "attention", "whisper": cross-attention and DTW
        of our decoder, of a Whisper model.
    audio: audio files, or features [T, F] as .npy; text: that of one audio file, or a file of id<TAB>text by the audio files' stems.
    cuts: lhotse cuts with audio or features, and text, instead; limit: only the first of them.
    normalize: text rule before tokenizing.
    start_shift, end_shift: seconds added to starts and ends of words; None: what was fitted for the run.
    out_cuts: write the cuts that could be aligned, with their word times.
    """

    checkpoint: str
    method: str = "auto"
    audio: tuple[str, ...] = ()
    text: str | None = None
    cuts: str | None = None
    normalize: str = "none"
    start_shift: float | None = None
    end_shift: float | None = None
    limit: int = 0
    out_cuts: str | None = None
    device: str = "cpu"

    def check(self) -> None:
        """
        Raises:
            ValueError: parts that exclude each other, or are missing.
        """
        if self.method not in METHODS:
            raise ValueError(f"--method {self.method}: none of {', '.join(METHODS)}")
        if self.out_cuts and not self.cuts:
            raise ValueError("--out-cuts needs --cuts: it writes those again, with word times")
        if bool(self.cuts) == bool(self.audio):
            raise ValueError("give either --cuts, or --audio with --text")
        if self.audio and not self.text:
            raise ValueError("--audio needs --text: the text itself, or a file of id<TAB>text")


@dataclass(frozen=True)
class Alignment:
    """hypotheses: id → the text with its word times; failures: id → why it could not be aligned."""

    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many utterances there were."""
        return len(self.hypotheses) + len(self.failures)


def align(job: AlignJob, say: Say = silent, load: Callable[[str, str], Any] | None = None) -> Alignment:
    """Align.

    Args:
        say: gets what is worth knowing while it works.
        load: (checkpoint, device) → a recognizer; by default `Recognizer.load`.

    Raises:
        ValueError: options that cannot be, an utterance without audio or text, or none that could be aligned.
    """
    job.check()
    rule = normalization(job.normalize)
    items = list(_items(job))[: job.limit or None]
    method, align_this = _aligner(job, load, items, rule, say)
    found = Alignment()
    timing = _timing(job, method, load is None, say)
    for id, text, source in items:
        try:
            found.hypotheses[id] = align_this(rule(text), source, timing)
        except ValueError as error:
            found.failures[id] = str(error)
    if not found.hypotheses:
        some = "; ".join(f"{id}: {why}" for id, why in list(found.failures.items())[:3])
        raise ValueError(f"none of {len(items)} utterances could be aligned ({some})")
    if job.out_cuts:
        _write_cuts(str(job.cuts), job.out_cuts, found.hypotheses)
    return found


@dataclass(frozen=True)
class Source:
    """Where an utterance is: in a file of audio or, .npy, of features; or in a cut."""

    path: str
    cut: Any = None

    @property
    def start(self) -> float:
        """Seconds from the beginning of the recording."""
        return self.cut.start if self.cut is not None else 0.0

    @property
    def heard(self) -> bool:
        """Whether it has audio, and not features alone."""
        return self.cut.has_recording if self.cut is not None else not self.path.endswith(".npy")

    def wave(self) -> Any:
        """[S] at 16 kHz.

        Raises:
            ValueError: it cannot be read, or is features.
        """
        import torch

        from voxkit.audio.io import read_audio
        from voxkit.data.reader import load_samples

        if not self.heard:
            raise ValueError(f"{self.path}: features, where attention and Whisper need audio; use --method ctc")
        return torch.from_numpy(load_samples(self.cut)) if self.cut is not None else read_audio(self.path)[0]

    def batch(self) -> Any:
        """A Batch of one, of audio or features."""
        import torch

        from voxkit.batch import Batch, Padded
        from voxkit.data.reader import load_features
        from voxkit.infer.recognizer import read_input

        if self.cut is not None and not self.heard:
            return Batch([self.path], features=Padded.of([torch.from_numpy(load_features(self.cut))]))
        return read_input(self.wave() if self.heard else self.path)


def _timing(job: AlignJob, method: str, ours: bool, say: Say) -> Any:
    """Shifts that are given, or that were fitted for the run."""
    if ours and method in ("ctc", "transducer") and job.start_shift is None and job.end_shift is None:
        from voxkit.checkpoint.loading import find_checkpoint
        from voxkit.infer.calibration import calibration_of, read_calibration, timing_of

        kept = timing_of(read_calibration(calibration_of(find_checkpoint(job.checkpoint))), method)
        if kept is not None:
            return kept
        say("word times are not fitted, they are where tokens spike: `voxkit decode RUN --calibrate SET`, with a set that knows them, "
            "brings them to the words")
    return WordTiming(job.start_shift or 0.0, job.end_shift or 0.0)


def _aligner(job: AlignJob, load: Callable[[str, str], Any] | None, items: list[Any], rule: Any,
             say: Say) -> tuple[str, Callable[..., Any]]:
    """The method, and (text, source, timing) → Hypothesis by it."""
    if job.method == "whisper":
        from voxkit.infer.attention_times import WhisperAligner

        _refuse_own(job.checkpoint)
        clock = WhisperAligner(job.checkpoint, job.device)
        return job.method, lambda text, source, timing: clock.align(source.wave(), text, timing, source.start)
    from voxkit.infer.recognizer import Recognizer

    recognizer = (load or Recognizer.load)(job.checkpoint, job.device)
    method = _method_of(recognizer.model.heads) if job.method == "auto" else job.method
    if method in ("ctc", "transducer"):
        from voxkit.infer.alignment import align_utterance

        return method, lambda text, source, timing: align_utterance(recognizer, source.batch(), text, timing, offset=source.start,
                                                                    head=method)
    if method == "head":
        from voxkit.infer.alignment import align_by_head

        return method, lambda text, source, timing: align_by_head(recognizer, source.batch(), text, offset=source.start)
    from voxkit.infer.attention_times import AttentionAligner

    aligner = AttentionAligner(recognizer)
    examples = []
    for _, text, source in items[:16]:
        with suppress(AudioError):  # said where it is aligned
            examples.append((source.wave(), rule(text)))
    say(f"heads (layer, head): {', '.join(map(str, aligner.choose(examples)))}")
    return method, lambda text, source, timing: aligner.align(source.wave(), text, timing, source.start)


def _method_of(heads: Any) -> str:
    """How a model aligns where nobody says: by CTC, or by a decoder whose heads are known."""
    return "attention" if heads.ctc is None and heads.decoder is not None and heads.decoder.alignment_heads else "ctc"


def _refuse_own(name: str) -> None:
    """The hub would be asked for a run of ours by its name, which looks like that of a model there."""
    from voxkit.checkpoint.runs import latest_run

    path = Path(name)
    run = path if path.exists() else latest_run(path.parent, path.name)
    if run is not None and ((run / "meta.json").is_file() or (run / "checkpoints").is_dir()):
        raise ValueError(f"{name}: a run or checkpoint of voxkit, and --method whisper takes a Whisper model, by folder or Hugging Face "
                         "name; give one, or use --method ctc or attention")


def _write_cuts(source: str, out: str, hypotheses: dict[str, Hypothesis]) -> None:
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


def _items(job: AlignJob) -> Iterator[tuple[str, str, Source]]:
    """(id, text, source) of what is to be aligned."""
    if job.cuts:
        yield from _cuts(job.cuts)
        return
    assert job.text is not None
    if not _is_file(job.text):
        if len(job.audio) > 1:
            raise ValueError(f"--text {job.text!r} is no file, and one text cannot be that of {len(job.audio)} audio files")
        yield Path(job.audio[0]).stem, job.text, Source(job.audio[0])
        return
    texts = read_texts(job.text).texts
    for path in job.audio:
        if Path(path).stem not in texts:
            raise ValueError(f"{job.text}: no text for {Path(path).stem} ({path})")
        yield Path(path).stem, texts[Path(path).stem], Source(path)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a text is longer than the name of a file may be
        return False


def _cuts(path: str) -> Iterator[tuple[str, str, Source]]:
    from voxkit.data.manifests import load_cuts

    for cut in load_cuts(path):
        if len(cut.supervisions) != 1:
            raise ValueError(f"{path}: cut {cut.id} has {len(cut.supervisions)} supervisions; aligning wants one "
                             "(CutSet.trim_to_supervisions)")
        if not (cut.has_recording or cut.has_features):
            raise ValueError(f"{path}: cut {cut.id} has neither an audio file nor features")
        yield cut.id, cut.supervisions[0].text or "", Source(cut.id, cut)
