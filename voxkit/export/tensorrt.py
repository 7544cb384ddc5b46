"""TensorRT engines of an artifact's graphs, for the GPU of this machine; they run nowhere else, so that the ONNX files stay beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxkit.files import writing
from voxkit.optional import available, require
from voxkit.runtime.artifact import read_meta

_SIZES = {"batch": (1, 4, 16), "frames": (1, 400, 3000), "width": (1, 10, 10), "before": (1, 10, 10), "count": (1, 1, 64),
          "done": (0, 30, 448), "tokens": (1, 60, 600)}  # least, usual and largest of the open dimensions that the model sets no limit to


def why_not() -> str:
    """Why no engine can be built here, with what would change it; empty = it can."""
    if not available("tensorrt"):
        return "the package tensorrt is not installed: pip install tensorrt   (an NVIDIA GPU and its driver are needed)"
    import torch

    return "" if torch.cuda.is_available() else "there is no NVIDIA GPU here, and an engine is built on the one it runs on"


def build_engines(folder: Path, *, half: bool = True) -> list[Path]:
    """Build an engine of every graph, beside it.

    Args:
        folder: an artifact in ONNX format.
        half: let TensorRT compute in fp16 where it finds that faster.

    Raises:
        ValueError: it cannot be done here (`why_not`), or a graph that TensorRT does not take, with its reason.
    """
    if reason := why_not():
        raise ValueError(f"no TensorRT engines: {reason}")
    trt = require("tensorrt", why="TensorRT engines")
    meta, logger = read_meta(folder), trt.Logger(trt.Logger.WARNING)
    made = []
    for name, file in meta["graphs"].items():
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(folder / file)):
            raise ValueError(f"{folder / file}: TensorRT does not take it: {parser.get_error(0)}")
        config = builder.create_builder_config()
        if half and builder.platform_has_fast_fp16:
            config.set_flag(trt.BuilderFlag.FP16)
        config.add_optimization_profile(_profile(builder, folder / file, meta))
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ValueError(f"{folder / file}: TensorRT built no engine; its log above says why")
        with writing(folder / f"{name}.engine", "wb") as out:
            out.write(bytes(engine))
        made.append(folder / f"{name}.engine")
    return made


def _profile(builder: Any, path: Path, meta: dict[str, Any]) -> Any:
    """Sizes of the open dimensions of each input, by their names."""
    graph = require("onnx", "export").load(path, load_external_data=False).graph
    least, longest = int(meta["least_input"]), int(meta["longest_input"])
    sizes = {**_SIZES, "samples": (least, min(longest, 10 * 16000), longest), "features": (least, min(longest, 1000), longest)}
    profile = builder.create_optimization_profile()
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if any(d.dim_param for d in dims):
            profile.set_shape(value.name, *(tuple(sizes[d.dim_param][i] if d.dim_param else d.dim_value for d in dims) for i in range(3)))
    return profile
