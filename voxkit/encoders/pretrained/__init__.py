"""Pretrained encoders: WavLM, HuBERT, wav2vec 2.0 / MMS and Whisper's encoder, frozen or with named top layers open."""

from voxkit.encoders.pretrained.config import PretrainedConfig
from voxkit.encoders.pretrained.encoder import PretrainedEncoder, pretrained_encoder

__all__ = ["PretrainedConfig", "PretrainedEncoder", "pretrained_encoder"]
