"""Small random checkpoints in Hugging Face's formats, for the tests of the pretrained encoders."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder

CONV = {"conv_dim": [32, 32, 32], "conv_kernel": [10, 8, 4], "conv_stride": [5, 4, 4], "num_feat_extract_layers": 3}
COMMON = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64,
          "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "hidden_dropout": 0.1, "attention_dropout": 0.1,
          "activation_dropout": 0.1, "layerdrop": 0.1, "vocab_size": 8, **CONV}
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
KINDS = ("wavlm-base", "wavlm-large", "hubert-base", "hubert-large", "wav2vec2-base", "wav2vec2-large", "whisper")


def make_model(kind: str) -> torch.nn.Module:
    """A random model of one of KINDS, with every weight moved off its start (norms and position gates too)."""
    import transformers

    torch.manual_seed(0)
    if kind == "whisper":
        config = transformers.WhisperConfig(d_model=32, encoder_layers=4, encoder_attention_heads=4, encoder_ffn_dim=64,
                                            decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=64, vocab_size=60,
                                            num_mel_bins=80, dropout=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                            decoder_start_token_id=3, suppress_tokens=[], begin_suppress_tokens=[])
        model = transformers.WhisperForConditionalGeneration(config)
    else:
        family, size = kind.split("-")
        names = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}
        config = getattr(transformers, f"{names[family]}Config")(**COMMON, **(BASE if size == "base" else LARGE))
        model = getattr(transformers, f"{names[family]}Model")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def save_model(kind: str, folder: Path) -> Path:
    """Write a random checkpoint of one of KINDS; Base models normalize their input, Large ones do not, to have both."""
    path = folder / kind
    model = make_model(kind)
    model.save_pretrained(path)
    preprocessor = {} if kind == "whisper" else {"do_normalize": kind.endswith("base")}
    (path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000, **preprocessor}))
    return path


def make_audio(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of these lengths, with something loud in the padding."""
    generator = torch.Generator().manual_seed(1)
    audio = 0.1 * torch.randn(len(lengths), max(lengths), generator=generator) + 0.02
    for row, length in zip(audio, lengths):
        row[length:] = 3.0
    return audio, torch.tensor(lengths)


def build(checkpoints: dict[str, Path], kind: str, **options) -> PretrainedEncoder:
    """The encoder on one of the fixture's checkpoints."""
    return PretrainedEncoder(PretrainedConfig(name=str(checkpoints[kind]), **options))
