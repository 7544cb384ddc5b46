"""Transcribing single files, with a checkpoint or an export directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from voxkit.experiments.search import Say, build_search, open_checkpoint, set_chunk, silent
from voxkit.experiments.settings import SearchSettings, option
from voxkit.hypothesis import Hypothesis


@dataclass(frozen=True)
class TranscribeJob:
    """Attributes:
    checkpoint: a checkpoint, a run, exp/NAME for the newest run of that name, or an export directory.
    method, search: the search, and what it is given.
    words: also word times and confidences.
    stream, chunk_ms, left_ms: recognise the audio as it comes; the encoder's chunk and what it sees before one.
    device; int8: of an export directory, the quantised model.
    """

    checkpoint: str
    method: str = "greedy"
    search: SearchSettings = field(default_factory=SearchSettings)
    words: bool = False
    stream: bool = False
    chunk_ms: float | None = None
    left_ms: float | None = None
    device: str = "cpu"
    int8: bool = False

    @property
    def exported(self) -> bool:
        """Whether the checkpoint is an export directory."""
        return (Path(self.checkpoint) / "model.onnx").is_file()


Heard = tuple[float, Hypothesis, bool]  # seconds of audio heard, what was recognised until then, whether it is final


def transcriber(job: TranscribeJob, say: Say = silent) -> Callable[[str], Iterator[Heard]]:
    """A function from a file (audio, or .npy of features) to what is recognised: every change with `stream`, else the end alone.

    Raises:
        ValueError: options that cannot be, or that an export directory does not take.
    """
    if job.exported:
        return _exported(job)
    if job.int8:
        raise ValueError(f"--int8: {job.checkpoint} is no export directory; make one with `voxkit export`")
    from voxkit.infer.calibration import read_calibration, timing_of

    opened = open_checkpoint(job.checkpoint, job.device)
    chunk = set_chunk(opened, job.search, [job.method], job.stream, job.chunk_ms, job.left_ms)
    content = read_calibration(opened.kept)
    search = build_search(job.search, opened, say, chunk=chunk, stream=job.stream, words=job.words, timing=timing_of(content))
    search.check([job.method], say)
    known, why = search.fitted(content, job.method)
    if job.words and why:
        say(f"confidences are not calibrated: {why}")
    options = search.of(job.method, temperature=known["temperature"] if known else 1.0)
    if not job.stream:
        return lambda path: _whole(opened.recognizer.transcribe(path, options))
    from voxkit.audio.io import read_audio
    from voxkit.infer.streaming import StreamingRecognizer, stream_recording

    stream = StreamingRecognizer(opened.recognizer, options, chunk_ms=job.chunk_ms, left_ms=job.left_ms)

    def streamed(path: str) -> Iterator[Heard]:
        if path.endswith(".npy"):
            raise ValueError(f"{path} holds features, and --stream takes audio")
        yield from stream_recording(stream, read_audio(path)[0])

    return streamed


def _exported(job: TranscribeJob) -> Callable[[str], Iterator[Heard]]:
    from voxkit.runtime.onnx import OnnxRecognizer

    given = [*job.search.weights, *(name for name in ("lm", "rescore_lm", "phrases", "boost", "graph") if getattr(job.search, name)),
             *(["tuned"] if job.search.tuned is not None else [])]
    if given:
        raise ValueError(f"{', '.join(map(option, given))}: an export directory is searched greedily, without language models, phrases or "
                         "weights")
    if job.stream or job.chunk_ms is not None or job.left_ms is not None:
        raise ValueError("--stream, --chunk-ms, --left-ms: an export directory takes whole utterances; give the run that it was made from")
    if job.search.times == "peaks":
        raise ValueError(f"--times {job.search.times}: an export directory aligns what it recognised")
    if job.method != "greedy":
        raise ValueError(f"--method {job.method}: an export directory holds the CTC part alone, which is searched greedily")
    recognizer = OnnxRecognizer(job.checkpoint, int8=job.int8, device=job.device)
    return lambda path: _whole(recognizer.transcribe(path))


def _whole(hypothesis: Hypothesis) -> Iterator[Heard]:
    yield hypothesis.audio_duration, hypothesis, True
