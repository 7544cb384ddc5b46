"""An export directory: ONNX graphs, tokenizer, meta.json; checked, then put in its place in one move.

    model.onnx       float32    audio [B, S], lengths [B] → log_probs [B, T', V], frames [B]
    model.int8.onnx  INT8 weights
    tokenizer.model  meta.json
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from voxkit import __version__
from voxkit.checkpoint.loading import Loaded
from voxkit.encoders.pretrained import pretrained_encoder
from voxkit.export.graph import MIN_SAMPLES, OPSET, export_onnx, max_samples
from voxkit.export.parity import GateOptions, GateReport, Utterance, check_parity, noise
from voxkit.export.quantise import quantise_int8
from voxkit.optional import require

_MEASURED = 4  # utterances that tell which matrices do not bear INT8


def export_checkpoint(loaded: Loaded, out: Path, utterances: Sequence[Utterance] = (), *, int8: bool = True,
                      int8_bits: int = 7, options: GateOptions | None = None) -> tuple[Path, GateReport]:
    """Export, compare, write.

    Args:
        loaded: a checkpoint on the CPU; its model is left in float32.
        out: the directory; replaced where it was one of ours.
        utterances: what to compare on; none = noise, which tells scores, but neither text nor word error rate.
        int8: quantise too; int8_bits: of its weights, see `quantise_int8`.

    Returns:
        `out` and the report; where the gate fails, `out` stays as it was and everything is in `out` + ".failed", where the
        files that failed end in .failed too.

    Raises:
        ValueError: a model without CTC head, one that does not export, an `out` that is something else; MissingPackage.
    """
    model = loaded.model
    for name in ("front_end", "ctc_log_probs", "encode"):
        if not hasattr(model, name):
            raise ValueError(f"{loaded.path}: a {loaded.recipe.config.system} has no {name}; systems with a CTC head are exported")
    require("onnxruntime", "export", why="voxkit export")
    out = Path(out)
    if out.exists() and not (out / "meta.json").is_file():
        raise ValueError(f"{out} is there and no export; choose another directory, or remove it")
    part = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        graph = export_onnx(model, part / "model.onnx")
        meta = _describe(loaded)
        heard = [u for u in utterances if len(u.audio) <= meta["max_samples"]] if utterances else noise()
        if int8:
            measured = sorted((u.audio for u in heard if len(u.audio) >= MIN_SAMPLES), key=len)[:_MEASURED]
            kept = quantise_int8(part / "model.onnx", part / "model.int8.onnx", measured, weight_bits=int8_bits)
            meta["int8_bits"] = int8_bits
            meta["float32_in_int8"] = {name: round(error, 4) for name, error in kept.items()}
        names = [name for name in ("model.onnx", "model.int8.onnx") if (part / name).is_file()]
        loaded.tokenizer.save(part)
        _write_meta(part, meta, names)
        report = check_parity(graph, part, names, loaded.tokenizer, heard, options)
        meta["gate"] = {"on": "speech" if utterances else "noise", "utterances": report.utterances, "seconds": round(report.seconds, 2),
                        "threads": report.threads, "torch": report.torch_row,
                        "files": {name: asdict(verdict) for name, verdict in report.verdicts.items()}}
        target = out
        if report.problems:
            target = out.with_name(out.name + ".failed")
            failed = [name for name in names if report.verdicts[name].problems]
            for name in failed:
                (part / name).rename(part / f"{name}.failed")
            names = [f"{name}.failed" if name in failed else name for name in names]
        _write_meta(part, meta, names)
        _replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target, report


def _describe(loaded: Loaded) -> dict[str, Any]:
    config = loaded.recipe.config
    pretrained = pretrained_encoder(loaded.model)
    return {
        "format": 1, "system": config.system, "name": config.name, "vocab_size": loaded.tokenizer.size,
        "seconds_per_frame": loaded.model.seconds_per_frame, "sample_rate": 16000, "min_samples": MIN_SAMPLES,
        "max_samples": max_samples(loaded.model), "opset": OPSET,
        "encoder": Path(pretrained.config.name).name if pretrained is not None else "fbank",
        "checkpoint": {"name": loaded.path.name, "step": loaded.meta.get("step"), "sha256": _sha256(loaded.path / "model.safetensors")},
        "made_with": {"voxkit": __version__, "torch": torch.__version__, "onnx": require("onnx", "export").__version__,
                      "onnxruntime": require("onnxruntime", "export").__version__},
    }


def _write_meta(folder: Path, meta: dict[str, Any], names: Sequence[str]) -> None:
    meta = {**meta, "files": {name: (folder / name).stat().st_size for name in [*names, "tokenizer.model"]}}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _replace(part: Path, target: Path) -> None:
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)
