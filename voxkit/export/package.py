"""A checkpoint → an artifact: graphs, vocabulary, configuration, model card; checked, then put in its place in one move."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from voxkit import __version__
from voxkit.checkpoint.loading import Loaded, decode_dir
from voxkit.encoders.pretrained.encoder import pretrained_encoder
from voxkit.encoders.zipformer import Zipformer
from voxkit.export.card import model_card
from voxkit.export.feeds import measuring_feeds
from voxkit.export.graphs import check_exportable, describe, exact_names, graphs_of, prepared
from voxkit.export.parity import CheckUtterance, GateOptions, GateReport, check_parity, noise
from voxkit.export.quantize import Feed, quantize_int8
from voxkit.export.shrink import gather_quantized, share_tables, store
from voxkit.export.trace import OPSET, Graph, trace
from voxkit.files import sha256, write_json, write_text
from voxkit.infer.chunks import chunk_of
from voxkit.optional import require
from voxkit.rate import RATE
from voxkit.runtime.artifact import FORMAT, is_artifact

PRECISIONS = ("fp32", "fp16", "int8")
FORMATS = ("onnx", "ort")


@dataclass
class ExportOptions:
    """Attributes:
    precision: fp32; fp16 (weights stored so, computed with in fp32); int8 (matrices, weights and activations).
    int8_bits: of INT8 weights: 7 overflow on no CPU; 8 are finer, and overflow on an x86 without VNNI.
    streaming: an encoder of chunks for a causal model; chunk_ms, left_ms: milliseconds, None = the first bounded ones of training.
    decoder: the attention decoder too.
    format: onnx, or ort, which onnxruntime's mobile builds load.
    licenses: of the training data, for the card.
    gate: what is compared.
    """

    precision: str = "fp32"
    int8_bits: int = 7
    streaming: bool = False
    chunk_ms: float | None = None
    left_ms: float | None = None
    decoder: bool = True
    format: str = "onnx"
    licenses: list[str] = field(default_factory=list)
    gate: GateOptions = field(default_factory=GateOptions)

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = [] if self.precision in PRECISIONS else [f"precision: {self.precision!r} is none of {', '.join(PRECISIONS)}"]
        found += [] if self.format in FORMATS else [f"format: {self.format!r} is none of {', '.join(FORMATS)}"]
        if not self.streaming and (self.chunk_ms is not None or self.left_ms is not None):
            found.append("chunk_ms, left_ms: they are of a streaming artifact; add --streaming")
        return found + self.gate.problems()


def export_checkpoint(loaded: Loaded, out: Path, utterances: Sequence[CheckUtterance] = (), options: ExportOptions | None = None, *,
                      checked: Sequence[str] = ()) -> tuple[Path, GateReport]:
    """Export, compare, write.

    Args:
        loaded: a checkpoint on the CPU; its model is left in float32.
        out: the directory; replaced where it was one of ours.
        utterances: what to compare on; none = noise, which tells scores, but neither text nor word error rate.
        checked: names of the sets they are from, for the card.

    Returns:
        `out` and the report; where the gate fails, `out` stays as it was and everything is in `out` + ".failed", which the runtime does not
        open.

    Raises:
        ValueError: options that cannot be, a system that is not exported, a model that does not stream or does not export, an `out` that
            is something else; MissingPackage.
    """
    options = options or ExportOptions()
    if problems := options.problems():
        raise ValueError("; ".join(problems))
    gate = replace(options.gate, normalize=options.gate.normalize or loaded.setup.config.decode.normalize)
    system = loaded.setup.config.system
    check_exportable(system, loaded.model, str(loaded.path), options.streaming)
    require("onnxruntime", "export", why="voxkit export")
    out = Path(out)
    if out.exists() and not is_artifact(out):
        raise ValueError(f"{out} is there and no artifact; choose another directory, or remove it")
    part = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model = prepared(loaded.model)
    encoder = cast(Zipformer, model.encoder) if options.streaming else None
    before = (encoder.chunk, encoder.left_context) if encoder is not None else None
    try:
        chunk = chunk_of(model, options.chunk_ms, options.left_ms) if options.streaming else None
        graphs = graphs_of(system, model, chunk, decoder=options.decoder)
        meta = _describe(loaded, options) | describe(model, graphs, chunk)
        limit = meta["longest_input"] * (1 if meta["input"] == "audio" else RATE // 100)
        heard = [u for u in utterances if len(u.audio) and (chunk is not None or len(u.audio) <= limit)]
        for graph in graphs:
            trace(graph, part / f"{graph.name}.onnx")
        loaded.vocabulary.save(part)
        _copy(loaded, part)
        if options.precision != "fp32":
            meta["float32_in_int8"] = _shrink(part, graphs, meta, [u.audio for u in (heard or noise())], options)
        if options.format == "ort":
            _to_ort(part, meta)
        _finish(part, meta)
        report = check_parity(model, loaded.vocabulary, part, heard, precision=options.precision, chunk=chunk, options=gate)
        meta["gate"] = {**asdict(report), "sets": list(checked)}
        if report.problems:  # a directory that nothing opens
            meta["failed"], meta["graphs"] = meta["graphs"], {}
        _finish(part, meta)
        write_text(part / "README.md", model_card(meta, report, options.licenses, list(checked)))
        target = out if not report.problems else out.with_name(out.name + ".failed")
        _replace(part, target)
    finally:
        if encoder is not None and before is not None:
            encoder.set_chunk(*before)
        shutil.rmtree(part, ignore_errors=True)
    return target, report


def _describe(loaded: Loaded, options: ExportOptions) -> dict[str, Any]:
    config = loaded.setup.config
    pretrained = pretrained_encoder(loaded.model)
    encoder = pretrained.config.name if pretrained is not None else loaded.meta.get("imported", "fbank")
    return {
        "format": FORMAT, "system": config.system, "name": config.name, "precision": options.precision,
        "vocab_size": loaded.vocabulary.size, "sample_rate": RATE, "opset": OPSET, "encoder": Path(encoder).name,
        **({"int8_bits": options.int8_bits} if options.precision == "int8" else {}),
        "checkpoint": {"name": loaded.path.name, "step": loaded.meta.get("step"), "sha256": sha256(loaded.path / "model.safetensors")},
        "made_with": {"voxkit": __version__, "torch": torch.__version__, "onnx": require("onnx", "export").__version__,
                      "onnxruntime": require("onnxruntime", "export").__version__, "machine": _machine()},
    }


def _shrink(part: Path, graphs: list[Graph], meta: dict[str, Any], audios: list[np.ndarray],
            options: ExportOptions) -> dict[str, dict[str, float]]:
    """Store every graph in fewer bits → the matrices of each that stay in floating point although INT8 was asked for."""
    onnx = require("onnx", "export")
    kept: dict[str, dict[str, float]] = {}
    feeds: Mapping[str, Sequence[Feed]] = {}
    if options.precision == "int8":
        write_json(part / "meta.json", meta)
        feeds = measuring_feeds(part, graphs, audios)
    for graph in graphs:
        path, exact = part / f"{graph.name}.onnx", exact_names(graph)
        proto = onnx.load(path)
        share_tables(proto)
        if options.precision == "int8":
            proto, errors = quantize_int8(proto, feeds.get(graph.name, ()), weight_bits=options.int8_bits, exact=exact)
            gather_quantized(proto)
            kept[graph.name] = {name: round(error, 4) for name, error in errors.items()}
        store(proto, options.precision, exact)
        onnx.save(proto, path)
    return kept


def _to_ort(part: Path, meta: dict[str, Any]) -> None:
    """Every graph in onnxruntime's own format, for its mobile builds; the .onnx files go."""
    tools = require("onnxruntime.tools.convert_onnx_models_to_ort", "export", why="--format ort")
    style = tools.OptimizationStyle.Fixed
    for name, file in meta["graphs"].items():
        tools.convert_onnx_models_to_ort(part / file, optimization_styles=[style], target_platform="arm")
        made = next(p for p in sorted(part.glob(f"{name}*.ort")))
        made.rename(part / f"{name}.ort")
        (part / file).unlink()
        meta["graphs"][name] = f"{name}.ort"


def _copy(loaded: Loaded, part: Path) -> None:
    """What the checkpoint has besides its model: its configuration, and what was calibrated for its run."""
    shutil.copyfile(loaded.path / "config.yaml", part / "config.yaml")
    fitted = decode_dir(loaded.path) / "calibration.json"
    if fitted.is_file():
        shutil.copyfile(fitted, part / "calibration.json")


def _finish(part: Path, meta: dict[str, Any]) -> None:
    """Write meta.json with the sizes and hashes of the other files."""
    files = sorted(p for p in part.iterdir() if p.is_file() and p.name not in ("meta.json", "README.md"))
    meta["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
    write_json(part / "meta.json", meta)


def _machine() -> str:
    """The processor, as the system names it."""
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _replace(part: Path, target: Path) -> None:
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)
