"""Transcribing single files, with a checkpoint or an export directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxkit.experiments.settings import SearchSettings
from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.artifact import is_artifact

if TYPE_CHECKING:
    from voxkit.infer.recognizer import Recognizer, SearchOptions
    from voxkit.runtime.pipeline import Pipeline


@dataclass(frozen=True)
class TranscribeJob:
    """Attributes:
    checkpoint: a checkpoint, a run, exp/NAME for the newest run of that name, or an export directory.
    method, search: the search, and what it is given.
    words: also word times and confidences.
    stream, chunk_ms, left_ms: recognize the audio as it comes; the encoder's chunk and what it sees before one.
    device: cpu or cuda.
    state, save_state: of a model that adapts: what `voxkit adapt` made of this speaker, and where to write what was learned by the end.
    """

    checkpoint: str
    method: str = "greedy"
    search: SearchSettings = field(default_factory=SearchSettings)
    words: bool = False
    stream: bool = False
    chunk_ms: float | None = None
    left_ms: float | None = None
    device: str = "cpu"
    state: str | None = None
    save_state: str | None = None

    @property
    def exported(self) -> bool:
        """Whether the checkpoint is an artifact of `voxkit export`."""
        return is_artifact(self.checkpoint)


_PIECE = RATE // 25  # samples that come at a time, where a recording is streamed
Heard = tuple[float, Hypothesis, bool]  # seconds of audio heard, what was recognized until then, whether it is final


def transcriber(job: TranscribeJob, say: Callable[[str], None] = lambda message: None) -> Callable[[str], Iterator[Heard]]:
    """A function from a file (audio, or .npy of features) to what is recognized: every change with `stream`, else the end alone.

    Raises:
        ValueError: options that cannot be, or that an export directory does not take.
    """
    if (job.state or job.save_state) and (job.exported or job.stream):
        raise ValueError("--state and --save-state take a checkpoint, and whole files: leave out --stream")
    if job.exported:
        from voxkit.experiments.transcribe_artifact import artifact_transcriber

        return artifact_transcriber(job)
    from voxkit.experiments.search import build_search, open_checkpoint, set_chunk
    from voxkit.infer.calibration import read_calibration, timing_of

    opened = open_checkpoint(job.checkpoint, job.device)
    chunk = set_chunk(opened, job.search, [job.method], job.stream, job.chunk_ms, job.left_ms)
    content = read_calibration(opened.kept)
    search = build_search(job.search, opened, say, chunk=chunk, stream=job.stream, words=job.words,
                          timing=timing_of(content, opened.recognizer.spikes_of(job.method)))
    search.check([job.method], say)
    known, why = search.fitted(content, job.method)
    if job.words and why:
        say(f"confidences are not calibrated: {why}")
    options = search.of(job.method, temperature=known["temperature"] if known else 1.0)
    if job.state or job.save_state:
        return _adapting(job, opened.recognizer, options)
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


def by_pipeline(pipeline: Pipeline, stream: bool) -> Callable[[str], Iterator[Heard]]:
    """The same function of a pipeline: with `stream` the file as if it were spoken now, utterance by utterance.

    Raises:
        ValueError: a stream is asked for, and no model takes one.
    """
    from voxkit.audio.decode import read_mono

    if stream:
        pipeline.session(endpointing=None)  # refuses now what could not stream

    def streamed(path: str) -> Iterator[Heard]:
        audio, session, done = read_mono(path)[0], pipeline.session(), Hypothesis("")
        pieces = [audio[first:first + _PIECE] for first in range(0, len(audio), _PIECE)]
        for piece in [*pieces, None]:
            for event in session.finalize() if piece is None else session.accept(piece):
                so_far = _joined(done, event.hypothesis)
                done = so_far if event.final else done
                yield session.seconds, so_far, False
        done.audio_duration = session.seconds
        yield session.seconds, done, True

    return streamed if stream else lambda path: _whole(pipeline.transcribe(path))


def _joined(one: Hypothesis, other: Hypothesis) -> Hypothesis:
    """Two utterances of one recording, whose words have its times."""
    return Hypothesis(f"{one.text} {other.text}".strip(), one.words + other.words, one.score + other.score, one.tokens + other.tokens,
                      one.audio_duration + other.audio_duration)


def _whole(hypothesis: Hypothesis) -> Iterator[Heard]:
    yield hypothesis.audio_duration, hypothesis, True


def _adapting(job: TranscribeJob, recognizer: Recognizer, options: SearchOptions) -> Callable[[str], Iterator[Heard]]:
    """Files of one speaker, each from where the one before left off; the state is written after each."""
    from voxkit.infer.adaptation import Adaptation

    adaptation = Adaptation(recognizer)
    if job.state:
        adaptation.load("", job.state)

    def heard(path: str) -> Iterator[Heard]:
        hypothesis = adaptation.transcribe(path, options=options)
        if job.save_state:
            adaptation.save("", job.save_state)
        yield from _whole(hypothesis)

    return heard
