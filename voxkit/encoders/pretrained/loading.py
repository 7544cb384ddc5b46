"""Weights by Hugging Face name or folder → Backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from voxkit.encoders.pretrained.backbone import Backbone
from voxkit.encoders.pretrained.known import KNOWN
from voxkit.encoders.pretrained.wav2vec import Wav2VecBackbone
from voxkit.encoders.pretrained.whisper import WhisperBackbone
from voxkit.hub import builds_shapes_only, is_folder, reading
from voxkit.optional import require

FAMILIES = {
    "wavlm": ("WavLMModel", Wav2VecBackbone),
    "hubert": ("HubertModel", Wav2VecBackbone),
    "wav2vec2": ("Wav2Vec2Model", Wav2VecBackbone),
    "whisper": ("WhisperEncoder", WhisperBackbone),
}
_UNUSED = ("masked_spec_embed",)  # parameters of pre-training that a checkpoint may lack


def load_backbone(name: str, normalize: bool | None = None) -> Backbone:
    """Read a pretrained encoder in float32.

    Args:
        name: Hugging Face name or a folder; a folder is never looked for on the hub.
        normalize: overrides do_normalize of preprocessor_config.json (not for Whisper).

    Raises:
        ValueError: no such folder or name, the hub cannot be reached, an unknown family, weights that do not fit.
        MissingPackage: transformers is not installed.
    """
    transformers = require("transformers", "pretrained", why="pretrained encoders")
    local = is_folder(name)
    if builds_shapes_only() and not local and name in KNOWN:
        kind, options = KNOWN[name]
        config = transformers.AutoConfig.for_model(kind, **options)
    else:
        with reading("pretrained encoder", name, local):
            config = transformers.AutoConfig.from_pretrained(name, local_files_only=local)
    family = config.model_type
    if family not in FAMILIES:
        raise ValueError(f"{name} is a {family!r} model; encoders are made of: {', '.join(FAMILIES)}")
    class_name, backbone = FAMILIES[family]
    if builds_shapes_only():
        with torch.device("meta"):
            empty = (_whisper_encoder() if family == "whisper" else getattr(transformers, class_name))(config)
        return backbone(empty, {}) if family == "whisper" else backbone(empty, {}, normalize)
    preprocessor = _preprocessor(name, local)
    if family == "whisper":
        if normalize is not None:
            raise ValueError("encoder.normalize: Whisper's log-mel has a normalisation of its own; leave the option out")
        model = _read(_whisper_encoder(), name, local, key_mapping={r"^(model\.)?encoder\.": ""})
        return backbone(model, preprocessor)
    model = _read(getattr(transformers, class_name), name, local)
    return backbone(model, preprocessor, normalize)


def _whisper_encoder() -> type:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder


def _read(cls: type, name: str, local: bool, **options: Any) -> torch.nn.Module:
    """from_pretrained without its progress bar and its list of unused weights, but strict about missing ones."""
    if cls.__name__ != "WavLMModel":  # WavLM's gated position bias has one implementation only
        options["attn_implementation"] = "sdpa"
    with reading("pretrained encoder", name, local):
        model, info = cls.from_pretrained(name, local_files_only=local, dtype=torch.float32, output_loading_info=True, **options)
    missing = [key for key in info["missing_keys"] if not key.endswith(_UNUSED)]
    mismatched = [str(key) for key in info.get("mismatched_keys", [])]
    if missing or mismatched:
        raise ValueError(f"{name}: {len(missing)} weights missing and {len(mismatched)} of another shape, for example "
                         f"{', '.join(sorted(missing + mismatched)[:3])}; the folder is not a whole {cls.__name__} checkpoint")
    return model.eval()


def _preprocessor(name: str, local: bool) -> dict[str, Any]:
    """preprocessor_config.json, or {} where there is none."""
    if local:
        path: Path | None = Path(name).expanduser() / "preprocessor_config.json"
    else:
        from transformers.utils import cached_file

        found = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
        path = Path(found) if found else None
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
