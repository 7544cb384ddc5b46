"""A checkpoint as the service's model: confidences calibrated with what was fitted for the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from voxkit.experiments.search import Say, build_search, open_checkpoint
from voxkit.infer.calibration import calibration_of, read_calibration, timing_of
from voxkit.serve.backend import Backend
from voxkit.serve.torch_backend import TorchBackend


def checkpoint_backend(job: Any, say: Say) -> Backend:
    """The model of a `voxkit.experiments.serving.ServeJob`.

    Raises:
        ValueError: options that cannot be; a calibration that is none, or not for this search.
    """
    if job.calibration and not Path(job.calibration).is_file():
        raise ValueError(f"--calibration {job.calibration}: no such file; `voxkit decode --calibrate SET` writes "
                         "decode/calibration.json in a run")
    if job.threads:
        torch.set_num_threads(job.threads)
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
    return TorchBackend(opened.recognizer, options, calibration)
