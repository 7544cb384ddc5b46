"""INT8 weights for what is a matrix product; activations are quantised as they come (dynamic quantisation)."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from pathlib import Path

from voxkit.optional import require


def quantise_int8(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Write `target`, the ONNX model `source` with the constant matrices of its MatMul and Gemm nodes as INT8, a scale per column.

    Convolutions, the filterbank and everything between two activations stay float32: they are small or care about their range.

    Raises:
        MissingPackage: onnx or onnxruntime is not installed.
    """
    require("onnx", "export", why="quantisation")
    quantization = require("onnxruntime.quantization", "export", why="quantisation")
    onnx = require("onnx", "export")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises a pre-processing step that the exporter's optimiser has done
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
            model = onnx.load(os.fspath(source))
            del model.graph.value_info[:]  # shapes in the tracer's symbols, which onnxruntime's own inference contradicts
            plain = Path(scratch) / "model.onnx"
            onnx.save(model, plain)
            quantization.quantize_dynamic(plain, Path(target), op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                                          weight_type=quantization.QuantType.QInt8)
    finally:
        logger.setLevel(level)
