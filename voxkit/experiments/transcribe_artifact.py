"""Transcribing with an artifact of `voxkit export`: the same job where it applies, and no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from voxkit.experiments.settings import check_needs, option
from voxkit.hypothesis import Hypothesis
from voxkit.runtime.artifact import Artifact
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions

Heard = tuple[float, Hypothesis, bool]  # seconds of audio heard, what was recognized until then, whether it is final

_WEIGHTS = ("beam", "ctc_weight", "lm_weight", "length_bonus", "length_limit", "coverage", "length_power", "internal_lm_weight",
            "symbols_per_frame")  # of the runtime's searches


def artifact_transcriber(job: Any) -> Callable[[str], Iterator[Heard]]:
    """A path → its hypothesis, and with `stream` every change before it.

    Args:
        job: a `voxkit.experiments.transcribe.TranscribeJob` whose checkpoint is an artifact.

    Raises:
        ValueError: options that are not of an artifact, or that it cannot serve.
    """
    check_artifact_job(job, *(["left_ms"] if job.left_ms is not None else []))
    artifact = Artifact(job.checkpoint, device=job.device)
    if job.chunk_ms is not None and (artifact.streaming is None or job.chunk_ms != artifact.streaming["chunk_ms"]):
        baked = f"chunks of {artifact.streaming['chunk_ms']:g} ms" if artifact.streaming else "whole utterances"
        raise ValueError(f"--chunk-ms {job.chunk_ms:g}: {job.checkpoint} was made for {baked}; another chunk is another "
                         "`voxkit export --streaming --chunk-ms`")
    if artifact.streaming is not None:
        return _streaming(job, artifact)
    if job.stream:
        raise ValueError(f"--stream: {job.checkpoint} takes whole utterances; make a streaming artifact with `voxkit export --streaming`")
    recognizer = OnnxRecognizer(artifact)
    options = artifact_options(job, recognizer)
    recognizer.check(options)

    def whole(path: str) -> Iterator[Heard]:
        hypothesis = recognizer.transcribe(path, options)
        yield hypothesis.audio_duration, hypothesis, True

    return whole


def check_artifact_job(job: Any, *given: str) -> None:
    """Refuse what artifacts run without.

    Args:
        job: with `checkpoint` and `search`. given: names of what it holds besides and no artifact takes.

    Raises:
        ValueError: it names the options.
    """
    search = job.search
    given = (*(name for name in ("rescore_lm", "graph") if getattr(search, name)), *(["tuned"] if search.tuned is not None else []),
             *given, *(name for name in search.weights if name not in _WEIGHTS))
    if given:
        raise ValueError(f"{', '.join(map(option, given))}: {job.checkpoint} is an artifact, which runs without them; give the checkpoint "
                         "that it was made from")
    check_needs(search.named)


def artifact_options(job: Any, recognizer: OnnxRecognizer) -> SearchOptions:
    """How a job searches: `method` (None: the usual one), `search`, `words`."""
    given = dict(job.search.weights)
    if job.search.lm:
        given["lm"] = recognizer.language_model(job.search.lm)
    if job.search.phrases:
        given["context"] = recognizer.phrases(job.search.boosted())
    return SearchOptions(job.method or recognizer.methods()[0], words=job.words, times=job.search.times or "alignment", **given)


def _streaming(job: Any, artifact: Artifact) -> Callable[[str], Iterator[Heard]]:
    """A file as if it were spoken now, as one utterance."""
    from voxkit.audio.decode import read_mono
    from voxkit.runtime.streaming import StreamingRecognizer

    stream = StreamingRecognizer(artifact, artifact_options(job, OnnxRecognizer(artifact)))

    def streamed(path: str) -> Iterator[Heard]:
        audio, session = read_mono(path)[0], stream.session(endpointing=None)
        piece = session.rate // 25
        for first in range(0, len(audio), piece):
            for event in session.accept(audio[first:first + piece]):
                if job.stream:
                    yield session.seconds, event.hypothesis, False
        yield session.seconds, session.finalize()[-1].hypothesis, True

    return streamed

