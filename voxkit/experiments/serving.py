"""The HTTP application of a checkpoint: its searches as settings say, confidences calibrated with what was fitted for the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxkit.experiments.search import Say, build_search, open_checkpoint, silent
from voxkit.experiments.settings import SearchSettings
from voxkit.infer.calibration import calibration_of, read_calibration, timing_of
from voxkit.serve.app import ServeConfig, create_app
from voxkit.serve.batcher import BatchingConfig
from voxkit.serve.inputs import Limits


@dataclass(frozen=True)
class ServeJob:
    """Attributes:
    checkpoint: a checkpoint, a run, or exp/NAME for the newest run of that name.
    method: of every request, None: the configuration's; search: what it is given.
    calibration: file of what was fitted for the confidences; None: that of the run.
    limits, batching: see `Limits`, `BatchingConfig`.
    """

    checkpoint: str
    method: str | None = None
    search: SearchSettings = field(default_factory=SearchSettings)
    calibration: str | None = None
    limits: Limits = field(default_factory=Limits)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    device: str = "auto"


def application(job: ServeJob, say: Say = silent) -> Any:
    """The application (FastAPI), to be run by `voxkit.serve.server.make_server`.

    Raises:
        ValueError: options that cannot be; a calibration that is none, or not for this search.
    """
    if job.calibration and not Path(job.calibration).is_file():
        raise ValueError(f"--calibration {job.calibration}: no such file; `voxkit decode --calibrate SET` writes "
                         "decode/calibration.json in a run")
    opened = open_checkpoint(job.checkpoint, job.device)
    method = job.method or opened.config.decode.method
    search = build_search(job.search, opened, say)
    search.check([method], say)
    content = read_calibration(job.calibration or calibration_of(opened.loaded.path))
    calibration, why = search.fitted(content, method)
    if job.calibration and why:
        raise ValueError(f"--calibration {job.calibration}: {why}")
    if job.calibration and calibration is None:
        known = ", ".join(content.get("methods", {})) or "none"
        raise ValueError(f"--calibration {job.calibration}: no temperature for {search.label(method)}, only for {known}; "
                         f"fit one with `voxkit decode RUN --methods {method} --calibrate SET`, with the same --lm and --phrases")
    if why:
        say(f"confidences are not calibrated: {why}")
    elif calibration is None:
        say(f"confidences are not calibrated: nothing was fitted for {search.label(method)}; `voxkit decode {job.checkpoint} --sets SET "
            f"--methods {method} --calibrate SET` does, with the same --lm and --phrases")
    options = search.of(method, timing=timing_of(content, opened.recognizer.spikes_of(method)))
    return create_app(opened.recognizer, ServeConfig(options, job.limits, job.batching, calibration))
