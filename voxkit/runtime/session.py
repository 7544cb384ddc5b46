"""onnxruntime's sessions, as every graph of an artifact is opened."""

from __future__ import annotations

import os
from typing import Any

from voxkit.optional import require

_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
              "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]}


def open_session(path: str | os.PathLike, threads: int = 0, device: str = "cpu") -> Any:
    """An onnxruntime session of an .onnx or .ort file.

    Args:
        threads: of one operator; 0 = all cores. They do not spin while they wait: sessions of a service share a machine.
        device: `cpu`, `cuda` or `tensorrt`.

    Raises:
        ValueError: an unknown device, one this onnxruntime was not built for, or a file that is no graph; MissingPackage: no onnxruntime.
    """
    ort = require("onnxruntime", "export", why="running ONNX models")
    if device not in _PROVIDERS:
        raise ValueError(f"device {device!r} is none of {', '.join(_PROVIDERS)}")
    if _PROVIDERS[device][0] not in ort.get_available_providers():
        raise ValueError(f"this onnxruntime has no {_PROVIDERS[device][0]}; install onnxruntime-gpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(os.fspath(path), options, providers=_PROVIDERS[device])
    except Exception as error:  # onnxruntime has a class for each of its states
        raise ValueError(f"{path}: onnxruntime cannot open it: {str(error).strip().splitlines()[0]}") from error
