"""Architectures of encoders on the hub, to count and shape a model where the weights cannot be had."""

from __future__ import annotations

from typing import Any

_BASE: dict[str, Any] = {}  # the defaults of transformers are Base
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
          "do_stable_layer_norm": True, "feat_extract_norm": "layer"}

def _whisper(dim: int, layers: int, heads: int, mel: int = 80) -> tuple[str, dict[str, Any]]:
    return "whisper", {"d_model": dim, "encoder_layers": layers, "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * dim,
                       "num_mel_bins": mel}


KNOWN: dict[str, tuple[str, dict[str, Any]]] = {  # name: (model type, options)
    "microsoft/wavlm-base": ("wavlm", _BASE),
    "microsoft/wavlm-base-plus": ("wavlm", _BASE),
    "microsoft/wavlm-large": ("wavlm", _LARGE),
    "facebook/hubert-base-ls960": ("hubert", _BASE),
    "facebook/hubert-large-ll60k": ("hubert", {**_LARGE, "conv_bias": True}),
    "facebook/wav2vec2-base": ("wav2vec2", _BASE),
    "facebook/wav2vec2-large-lv60": ("wav2vec2", {**_LARGE, "conv_bias": True}),
    "facebook/mms-300m": ("wav2vec2", {**_LARGE, "conv_bias": True}),
    "openai/whisper-tiny": _whisper(384, 4, 6),
    "openai/whisper-base": _whisper(512, 6, 8),
    "openai/whisper-small": _whisper(768, 12, 12),
    "openai/whisper-medium": _whisper(1024, 24, 16),
    "openai/whisper-large-v3": _whisper(1280, 32, 20, 128),
    "openai/whisper-large-v3-turbo": _whisper(1280, 32, 20, 128),
    "indicwhisper": _whisper(1024, 24, 16),  # AI4Bharat's, of whisper-medium: an archive, so that a folder takes its place
}
