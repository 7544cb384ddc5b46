"""Architectures of encoders on the hub, to count and shape a model where the weights cannot be had."""

from __future__ import annotations

from typing import Any

_BASE: dict[str, Any] = {}  # the defaults of transformers are Base
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
          "do_stable_layer_norm": True, "feat_extract_norm": "layer"}

KNOWN: dict[str, tuple[str, dict[str, Any]]] = {  # name: (model type, options)
    "microsoft/wavlm-base": ("wavlm", _BASE),
    "microsoft/wavlm-base-plus": ("wavlm", _BASE),
    "microsoft/wavlm-large": ("wavlm", _LARGE),
    "facebook/hubert-base-ls960": ("hubert", _BASE),
    "facebook/hubert-large-ll60k": ("hubert", {**_LARGE, "conv_bias": True}),
    "facebook/wav2vec2-base": ("wav2vec2", _BASE),
    "facebook/wav2vec2-large-lv60": ("wav2vec2", {**_LARGE, "conv_bias": True}),
    "facebook/mms-300m": ("wav2vec2", {**_LARGE, "conv_bias": True}),
    "openai/whisper-base": ("whisper", {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}),
}
