"""Weights by Hugging Face name or folder → Backbone."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from voxkit.encoders.pretrained.backbone import Backbone
from voxkit.encoders.pretrained.chunked import ChunkedWav2Vec
from voxkit.encoders.pretrained.known import KNOWN
from voxkit.encoders.pretrained.wav2vec import Wav2VecBackbone
from voxkit.encoders.pretrained.whisper import WhisperBackbone
from voxkit.files import read_text
from voxkit.hub import Source, builds_shapes_only, check_weights, hub_options, locate, reading
from voxkit.optional import require

FAMILIES: dict[str, tuple[str, Any]] = {
    "wavlm": ("WavLMModel", Wav2VecBackbone),
    "hubert": ("HubertModel", Wav2VecBackbone),
    "wav2vec2": ("Wav2Vec2Model", Wav2VecBackbone),
    "whisper": ("WhisperEncoder", WhisperBackbone),
}
_UNUSED = ("masked_spec_embed",)  # parameters of pre-training that a checkpoint may lack


def load_backbone(name: str, normalize: bool | None = None, revision: str = "",
                  chunks: tuple[int, int] | None = None) -> tuple[Backbone, Source]:
    """Read a pretrained encoder in float32 → the encoder, and where it was read from.

    Args:
        name: Hugging Face name or a folder; a folder is never looked for on the hub.
        normalize: overrides do_normalize of preprocessor_config.json (not for Whisper).
        revision: on the hub; empty = the newest.
        chunks: frames of one, and frames before it that are seen, of an encoder that hears chunk by chunk (not for Whisper); None: whole
            utterances.

    Raises:
        ValueError: no such folder or name, the hub cannot be reached, an unknown family, weights that do not fit.
        MissingPackage: transformers is not installed.
    """
    transformers = require("transformers", "pretrained", why="pretrained encoders")
    source = locate(name)
    if builds_shapes_only() and not source.folder and name in KNOWN:
        kind, options = KNOWN[name]
        config = transformers.AutoConfig.for_model(kind, **options)
    else:
        with reading("pretrained encoder", source):
            config = transformers.AutoConfig.from_pretrained(source.folder or name, **hub_options(source, revision))
        source = replace(source, revision=getattr(config, "_commit_hash", None) or "")
    family = config.model_type
    if family not in FAMILIES:
        raise ValueError(f"{name} is a {family!r} model; encoders are made of: {', '.join(FAMILIES)}")
    class_name, backbone = FAMILIES[family]
    if chunks is not None:
        if family == "whisper":
            raise ValueError(f"model.front_end.pretrained.chunk: {name} is a Whisper, whose positions are counted from the beginning of "
                             "30 s: it does not hear chunk by chunk; WavLM, HuBERT and wav2vec 2.0 do")
        backbone = partial(ChunkedWav2Vec, chunk=chunks[0], left=chunks[1])
    if builds_shapes_only():
        with torch.device("meta"):
            empty = (_whisper_encoder() if family == "whisper" else getattr(transformers, class_name))(config)
        return (backbone(empty, {}) if family == "whisper" else backbone(empty, {}, normalize)), source
    preprocessor = _preprocessor(source, revision)
    if family == "whisper":
        if normalize is not None:
            raise ValueError("model.front_end.pretrained.normalize: Whisper's log-mel has a normalization of its own; omit the option")
        model = _read(_whisper_encoder(), source, revision, key_mapping={r"^(model\.)?encoder\.": ""})
        return backbone(model, preprocessor), source
    model = _read(getattr(transformers, class_name), source, revision)
    return backbone(model, preprocessor, normalize), source


def _whisper_encoder() -> type:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder


def _read(cls: type, source: Source, revision: str, **options: Any) -> torch.nn.Module:
    """from_pretrained without its progress bar and its list of unused weights, but strict about missing ones."""
    if cls.__name__ != "WavLMModel":  # WavLM's gated position bias has one implementation only
        options["attn_implementation"] = "sdpa"
    if source.folder:
        check_weights(source)
        options["use_safetensors"] = True  # from the hub transformers may read a pickle, as tensors only (WavLM has nothing else there)
    with reading("pretrained encoder", source):
        model, info = cls.from_pretrained(source.folder or source.name, dtype=torch.float32, output_loading_info=True,
                                          **hub_options(source, revision), **options)
    missing = [key for key in info["missing_keys"] if not key.endswith(_UNUSED)]
    mismatched = [str(key) for key in info.get("mismatched_keys", [])]
    if missing or mismatched:
        raise ValueError(f"{source.name}: {len(missing)} weights missing and {len(mismatched)} of another shape, for example "
                         f"{', '.join(sorted(missing + mismatched)[:3])}; the folder is not a whole {cls.__name__} checkpoint")
    return model.eval()


def _preprocessor(source: Source, revision: str) -> dict[str, Any]:
    """preprocessor_config.json, or {} where there is none."""
    if source.folder:
        path: Path | None = Path(source.folder) / "preprocessor_config.json"
    else:
        from transformers.utils import cached_file

        found = cached_file(source.name, "preprocessor_config.json", revision=revision or None, _raise_exceptions_for_missing_entries=False)
        path = Path(found) if found else None
    return json.loads(read_text(path)) if path is not None and path.is_file() else {}


def empty_whisper(mel_bins: int, source_positions: int, dim: int, layers: int, heads: int, ffn: int) -> WhisperBackbone:
    """Whisper's encoder of these sizes with fresh weights, for who has its own to fill in.

    Raises:
        MissingPackage: transformers is not installed.
    """
    transformers = require("transformers", "pretrained", why="Whisper's encoder")
    config = transformers.WhisperConfig(num_mel_bins=mel_bins, max_source_positions=source_positions, d_model=dim, encoder_layers=layers,
                                        encoder_attention_heads=heads, encoder_ffn_dim=ffn)
    config._attn_implementation = "sdpa"
    return WhisperBackbone(_whisper_encoder()(config), {})
