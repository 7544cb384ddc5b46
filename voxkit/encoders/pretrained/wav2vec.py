"""The wav2vec 2.0 family: wav2vec 2.0 (arXiv 2006.11477), MMS, HuBERT (arXiv 2106.07447), WavLM (arXiv 2110.13900).

All are a convolutional feature encoder on the waveform (25 ms windows every 20 ms), a projection, a convolutional position
embedding and a Transformer. Two breeds: "group" (Base) has one norm over *time* in its first convolution, "layer" (Large) has
a norm over channels in each. Hugging Face runs the first without any mask, so that padding changes its states; here the
statistics over time are taken over the valid samples, and padding never matters for either.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.encoders.pretrained.backbone import Backbone, check_audio, padding_mask, zero_padding
from voxkit.masks import lengths_to_mask


class Wav2VecBackbone(Backbone):
    """A Wav2Vec2Model, HubertModel or WavLMModel of transformers, without heads and length adapters."""

    def __init__(self, model: nn.Module, preprocessor: dict[str, Any], normalize: bool | None = None):
        """
        Args:
            model: transformers' model.
            preprocessor: preprocessor_config.json, for its do_normalize.
            normalize: overrides do_normalize.
        """
        super().__init__()
        config = model.config
        self.config = config
        self.family = config.model_type
        self.dim = config.hidden_size
        self.hop = 1
        self.shortest = 1  # samples that give one frame
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride)):
            self.shortest = (self.shortest - 1) * stride + kernel
            self.hop *= stride
        self.frame_rate = 16000 / self.hop
        if normalize is None and "do_normalize" not in preprocessor:
            warnings.warn(f"{config._name_or_path or self.family}: no do_normalize in preprocessor_config.json; the audio is "
                          "normalized to mean 0 and variance 1 (model.front_end.pretrained.normalize=false turns it off)", stacklevel=2)
        self.normalize = bool(preprocessor.get("do_normalize", True)) if normalize is None else normalize
        self.convs = model.feature_extractor.conv_layers
        self.projection = model.feature_projection
        self.position_conv = model.encoder.pos_conv_embed
        norm = model.encoder.layer_norm
        self.stable = bool(config.do_stable_layer_norm)  # norm before the blocks, hence one after the last
        self.first_norm = None if self.stable else norm
        self.last_norm = norm if self.stable else None
        self.layers = model.encoder.layers

    def embed(self, audio: Tensor, lengths: Tensor, ids: list[str] | None = None) -> tuple[Tensor, Tensor]:
        check_audio(audio, lengths, self.shortest, None, ids, f"a {self.family} encoder")
        if not torch.compiler.is_exporting():
            audio = audio[:, : int(lengths.max())]
        x = (normalize_audio(audio, lengths) if self.normalize else zero_padding(audio, lengths))[:, None]
        for index, conv in enumerate(self.convs):
            lengths = (lengths - self.config.conv_kernel[index]).div(self.config.conv_stride[index], rounding_mode="floor") + 1
            if index == 0 and self.config.feat_extract_norm == "group":
                x = conv.activation(masked_group_norm(conv.conv(x), lengths, conv.layer_norm))
            else:
                x = conv(x)
        x = self.projection(x.transpose(1, 2))
        x = x[0] if isinstance(x, tuple) else x
        x = x + self._positions(zero_padding(x, lengths), lengths)
        return (x if self.first_norm is None else self.first_norm(x)), lengths

    def _positions(self, x: Tensor, lengths: Tensor) -> Tensor:
        batch_norm = getattr(self.position_conv, "batch_norm", None)
        if batch_norm is None:
            return self.position_conv(x)
        x = zero_padding(batch_norm(x.transpose(1, 2)).transpose(1, 2), lengths).transpose(1, 2)
        return self.position_conv.activation(self.position_conv.padding(self.position_conv.conv(x))).transpose(1, 2)

    def embed_modules(self) -> list[nn.Module]:
        modules = [self.convs, self.projection, self.position_conv]
        if self.first_norm is not None:
            modules.append(self.first_norm)
        if self.family == "wavlm":  # every layer uses the position table that layer 1 owns
            modules.append(self.layers[0].attention.rel_attn_embed)
        return modules

    def context(self, lengths: Tensor, frames: int) -> Any:
        mask = padding_mask(lengths, frames)
        if self.family != "wavlm":
            return mask
        bias = self.layers[0].attention.compute_bias(frames, frames)
        bias = bias.expand(lengths.shape[0], *bias.shape).reshape(-1, frames, frames)
        return (None if mask is None else mask[:, 0, 0]), bias

    def layer(self, index: int, x: Tensor, context: Any) -> Tensor:
        if self.family != "wavlm":
            return super().layer(index, x, context)
        mask, bias = context
        return self.layers[index](x, attention_mask=mask, position_bias=bias, index=index)[0]

    def options(self) -> dict[str, Any]:
        keys = ("conv_kernel", "conv_stride", "feat_extract_norm", "feat_extract_activation", "num_attention_heads",
                "hidden_act", "layer_norm_eps", "do_stable_layer_norm", "num_buckets", "max_bucket_distance")
        return {"normalize": self.normalize, **{key: getattr(self.config, key, None) for key in keys}}

    def set_dropout(self, index: int, dropout: float | None, attention: float | None, activation: float | None) -> None:
        layer = self.layers[index]
        if dropout is not None:
            layer.dropout.p = layer.feed_forward.output_dropout.p = dropout
        if attention is not None:
            layer.attention.dropout = attention
        if activation is not None:
            layer.feed_forward.intermediate_dropout.p = activation


def normalize_audio(audio: Tensor, lengths: Tensor) -> Tensor:
    """audio [B, S] → zero mean and unit variance over each utterance's own samples, zeros behind them."""
    mask = lengths_to_mask(lengths, audio.shape[1])
    audio = audio.float().masked_fill(~mask, 0.0)
    mean = audio.sum(1, keepdim=True) / lengths[:, None]
    centered = (audio - mean).masked_fill(~mask, 0.0)
    variance = centered.square().sum(1, keepdim=True) / lengths[:, None]
    return centered / torch.sqrt(variance + 1e-7)


def masked_group_norm(x: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
    """x [B, C, T] → each channel normalized over the valid frames of its utterance, as GroupNorm(C, C) does without padding."""
    with torch.autocast(x.device.type, enabled=False):
        mask = lengths_to_mask(lengths, x.shape[2])[:, None]
        count = lengths[:, None, None]
        x = x.float()
        mean = x.masked_fill(~mask, 0.0).sum(2, keepdim=True) / count
        variance = (x - mean).square().masked_fill(~mask, 0.0).sum(2, keepdim=True) / count
        scale = torch.rsqrt(variance + norm.eps) * norm.weight[:, None]
        return (x - mean) * scale + norm.bias[:, None]
