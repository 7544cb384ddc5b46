"""The service of a checkpoint or an artifact: its searches as settings say. Over an artifact it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from voxkit.experiments.settings import SearchSettings
from voxkit.experiments.transcribe_artifact import artifact_options, check_artifact_job
from voxkit.runtime.artifact import Artifact, is_artifact
from voxkit.runtime.pipeline import Pipeline
from voxkit.runtime.recognizer import OnnxRecognizer
from voxkit.runtime.second_pass import ArtifactPass
from voxkit.serve.app import create_app
from voxkit.serve.backend import Backend
from voxkit.serve.batcher import BatchingConfig
from voxkit.serve.inputs import Limits
from voxkit.serve.live.sessions import LiveLimits
from voxkit.serve.onnx_backend import OnnxBackend, StreamingBackend
from voxkit.serve.service import ServeConfig
from voxkit.serve.tokens import Tokens


@dataclass(frozen=True)
class ServeJob:
    """Attributes:
    checkpoint: an artifact, a checkpoint, a run, or exp/NAME for the newest run of that name; empty: `config` names it.
    config: file of options (voxkit.runtime.pipeline): models, searches, endpoints, threads, device.
    method: of every request, None: the configuration's, or greedy; search: what it is given.
    calibration: file of what was fitted for the confidences; None: that of the run, or of the artifact.
    limits, batching, live: see `Limits`, `BatchingConfig`, `LiveLimits`.
    tokens: file of those that are let in; None: everybody is.
    second: with a streaming artifact: one over whole utterances, which says the final texts.
    threads: of onnxruntime; 0 = all cores.
    """

    checkpoint: str = ""
    config: str | None = None
    method: str | None = None
    search: SearchSettings = field(default_factory=SearchSettings)
    calibration: str | None = None
    limits: Limits = field(default_factory=Limits)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    live: LiveLimits = field(default_factory=LiveLimits)
    tokens: str | None = None
    second: str | None = None
    threads: int = 0
    device: str = "auto"

    @property
    def words(self) -> bool:
        """Their times are found for every utterance, their confidences are the answer's."""
        return True


def application(job: ServeJob, say: Any = lambda message: None) -> Any:
    """The application (FastAPI), to be run by `voxkit.serve.server.make_server`.

    Args:
        say: is told what a user may want to know.

    Raises:
        ValueError: options that cannot be; a calibration that is none, or not for this search.
    """
    tokens = Tokens.read(job.tokens) if job.tokens else Tokens()
    if job.config:
        from voxkit.experiments.pipeline import open_pipeline

        pipeline = open_pipeline(job.config)
        live = replace(job.live, endpointing=pipeline.config.endpointing)
        return create_app(pipeline_backend(pipeline), ServeConfig(job.limits, job.batching, live, tokens))
    if is_artifact(job.checkpoint):
        backend: Backend = artifact_backend(job)
    else:
        from voxkit.experiments.serving_checkpoint import checkpoint_backend

        if job.second:
            raise ValueError(f"--second: {job.checkpoint} is a checkpoint, which hears whole utterances; it goes with a streaming artifact")
        backend = checkpoint_backend(job, say)
    return create_app(backend, ServeConfig(job.limits, job.batching, job.live, tokens))


def pipeline_backend(pipeline: Pipeline) -> Backend:
    """What a file of options sets up as the service's model."""
    if pipeline.first is not None:
        return StreamingBackend(pipeline.first.artifact, pipeline.first.options, second=pipeline.whole)
    assert isinstance(pipeline.whole, ArtifactPass)
    return OnnxBackend(pipeline.whole.recognizer, pipeline.whole.options)


def artifact_backend(job: ServeJob) -> Backend:
    """An artifact as the service's model.

    Raises:
        ValueError: options that are not of an artifact, or that it cannot serve.
    """
    if job.calibration:
        raise ValueError(f"--calibration: {job.checkpoint} is an artifact and holds what was fitted; calibrate the checkpoint, then export "
                         "it again")
    check_artifact_job(job)
    device = "cpu" if job.device == "auto" else job.device
    recognizer = OnnxRecognizer(Artifact(job.checkpoint, threads=job.threads, device=device))
    options = artifact_options(job, recognizer)
    if recognizer.artifact.streaming is None:
        if job.second:
            raise ValueError(f"--second: {job.checkpoint} hears whole utterances itself; --second goes with a streaming artifact")
        return OnnxBackend(recognizer, options)
    second = ArtifactPass(OnnxRecognizer(Artifact(job.second, threads=job.threads, device=device))) if job.second else None
    return StreamingBackend(recognizer.artifact, options, second=second)
