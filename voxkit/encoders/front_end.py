"""Front ends: a batch → vectors at 50 frames/s for the encoder that learns.

    fbank        waveform → log-mel → SpecAugment → convolutional subsampling
    pretrained   waveform → frozen encoder, all states → learned mix → state masking → adapter
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from voxkit.audio.fbank import Fbank
from voxkit.audio.specaugment import SpecAugment, SpecAugmentConfig, StateMask, StateMaskConfig
from voxkit.batch import Batch
from voxkit.encoders.adapter import Adapter
from voxkit.encoders.layer_mix import LayerMix
from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder
from voxkit.encoders.zipformer.subsampling import ConvSubsampling


@dataclass
class FrontEndConfig:
    """Attributes:
    kind: `pretrained` or `fbank`.
    pretrained: which encoder, which of its layers are open.
    state_mask: masking of the mixed states, in training.
    adapter_hidden, adapter_dim, adapter_dropout: LN → D→hidden → GELU → dropout → hidden→dim.
    fbank_bins: mel bins of the fbank front end.
    spec_augment: masking of the fbank, in training.
    subsampling_dim: width out of the convolutional front end.
    isolate_padding: False = frames past an utterance's end leak into its last ones, as in icefall (imported models).
    """

    kind: str = "pretrained"
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    state_mask: StateMaskConfig = field(default_factory=StateMaskConfig)
    adapter_hidden: int = 512
    adapter_dim: int = 512
    adapter_dropout: float = 0.1
    fbank_bins: int = 80
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    subsampling_dim: int = 192
    isolate_padding: bool = True

    def problems(self) -> list[str]:
        return [] if self.kind in FRONT_ENDS else [f"kind: {self.kind!r} is none of {', '.join(FRONT_ENDS)}"]


class PretrainedFrontEnd(nn.Module):
    """Frozen encoder → layer-weighted sum → adapter. Takes audio, or cached states of its frozen part."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.pretrained = PretrainedEncoder(config.pretrained)
        self.mix = LayerMix(self.pretrained.num_states)
        self.mask = StateMask(config.state_mask)
        self.adapter = Adapter(self.pretrained.dim, config.adapter_hidden, config.adapter_dim, config.adapter_dropout)
        self.output_dim = config.adapter_dim

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """→ [B, T, D] at 50 frames/s, lengths [B]."""
        if batch.states is not None:
            states, lengths = self.pretrained.forward_from_states(batch.states, batch.lengths)
        elif batch.audio is not None:
            states, lengths = self.pretrained(batch.audio, batch.lengths)
        else:
            raise ValueError("a pretrained front end takes audio or cached states; set data.input to audio")
        return self.adapter(self.mask(self.mix(states), lengths)), lengths


class FbankFrontEnd(nn.Module):
    """Log-mel filterbank → SpecAugment → convolutional subsampling (100 → 50 frames/s)."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.fbank = Fbank(num_bins=config.fbank_bins)
        self.augment = SpecAugment(config.spec_augment)
        self.subsampling = ConvSubsampling(config.fbank_bins, config.subsampling_dim, isolate_padding=config.isolate_padding)
        self.output_dim = config.subsampling_dim

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """→ [B, T, D] at 50 frames/s, lengths [B]."""
        if batch.features is not None:
            features, lengths = batch.features, batch.lengths
        elif batch.audio is not None:
            with torch.no_grad():
                features, lengths = self.fbank(batch.audio, batch.lengths)
        else:
            raise ValueError("an fbank front end takes audio or features; set data.cache to false")
        return self.subsampling(self.augment(features, lengths), lengths)


FRONT_ENDS = {"pretrained": PretrainedFrontEnd, "fbank": FbankFrontEnd}


def build_front_end(config: FrontEndConfig) -> PretrainedFrontEnd | FbankFrontEnd:
    """The front end a configuration names."""
    return FRONT_ENDS[config.kind](config)
