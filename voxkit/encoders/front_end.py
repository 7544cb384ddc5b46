"""Front ends: a batch → vectors for the encoder that learns, at 50 frames/s (stacked: at its own rate).

    fbank        waveform → log-mel → SpecAugment → convolutional subsampling
    stacked      waveform → log-mel → SpecAugment → neighboring frames side by side, every n-th → linear
    extractor    the same from mel or raw frames of any window, normalized by utterance, data or speaker (extractor_front_end.py)
    pretrained   waveform → frozen encoder, all states → learned mix → state masking → adapter

Each can give several `views` of a batch (for the consistency loss): the batch repeated as a whole, [views·B, T, D], each row with masks
of its own, and what comes before the masks computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.audio.extractor import ExtractorConfig
from voxkit.audio.fbank import Fbank
from voxkit.audio.specaugment import SpecAugment, SpecAugmentConfig, StateMask, StateMaskConfig
from voxkit.batch import Batch
from voxkit.encoders.adapter import Adapter
from voxkit.encoders.extractor_front_end import ExtractorFrontEnd
from voxkit.encoders.layer_mix import LayerMix
from voxkit.encoders.pretrained import PretrainedConfig, PretrainedEncoder
from voxkit.encoders.zipformer.subsampling import ConvSubsampling
from voxkit.masks import lengths_to_mask


@dataclass
class FrontEndConfig:
    """Attributes:
    kind: `pretrained`, `fbank`, `stacked` or `extractor`.
    features: of the extractor.
    pretrained: which encoder, which of its layers are open.
    state_mask: masking of the mixed states, in training.
    adapter_hidden, adapter_dim, adapter_dropout: LN → D→hidden → GELU → dropout → hidden→dim.
    fbank_bins: mel bins of the fbank and stacked front ends, or width of the features they are given.
    spec_augment: masking of the fbank, in training.
    subsampling_dim: width out of the convolutional and the stacked front end.
    stack, stride: frames (of 10 ms) put side by side, and how far apart the stacks begin: Paraformer's low frame rate has 7 and 6.
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
    stack: int = 7
    stride: int = 6
    features: ExtractorConfig = field(default_factory=ExtractorConfig)

    def problems(self) -> list[str]:
        found = [] if self.kind in FRONT_ENDS else [f"kind: {self.kind!r} is none of {', '.join(FRONT_ENDS)}"]
        if not 1 <= self.stride <= self.stack:
            found.append(f"stride: {self.stride} is not between 1 and stack, {self.stack}: frames would be skipped")
        return found


class PretrainedFrontEnd(nn.Module):
    """Frozen encoder → layer-weighted sum → adapter. Takes audio, or cached states of its frozen part."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.pretrained = PretrainedEncoder(config.pretrained)
        self.seconds_per_frame = 1 / self.pretrained.frame_rate
        self.mix = LayerMix(self.pretrained.num_states)
        self.mask = StateMask(config.state_mask)
        self.adapter = Adapter(self.pretrained.dim, config.adapter_hidden, config.adapter_dim, config.adapter_dropout)
        self.output_dim = config.adapter_dim

    def forward(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor]:
        """→ [views·B, T, D] at the encoder's rate, 50 frames/s or 25, lengths [views·B]."""
        inside = views if self.pretrained.tells_views_apart else 1  # else they are the same up to the mix
        if batch.states is not None:
            states, lengths = self.pretrained.forward_from_states(batch.states.values.transpose(1, 2), batch.states.lengths, inside)
        elif batch.audio is not None:
            states, lengths = self.pretrained(batch.audio.values, batch.audio.lengths, views=inside)
        else:
            raise ValueError("a pretrained front end takes audio or cached states; set data.input to audio")
        mixed, lengths = self.mix(states).repeat(views // inside, 1, 1), lengths.repeat(views // inside)
        return self.adapter(self.mask(mixed, lengths)), lengths

    @property
    def state_size(self) -> int:
        """Tensors of a stream's state; 0: it takes whole utterances."""
        return self.pretrained.chunked.state_size if self.pretrained.chunked is not None else 0

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first sample, of an encoder with chunks."""
        assert self.pretrained.chunked is not None, "`state_size` says whether it streams"
        return self.pretrained.chunked.init_state(batch_size, device)

    def stream(self, audio: Tensor, state: tuple[Tensor, ...], *, least: int = 1, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next samples [B, S], any number of them → vectors [B, n, D] of the chunks that are whole with them, and the state after
        them. `least` is not looked at: a chunk is worth its while.

        Args:
            final: the audio ends here. Altogether the vectors are those of `forward`.
        """
        states, state = self.pretrained.stream(audio, state, final=final)
        return self.adapter(self.mix(states)), state


class FbankFrontEnd(nn.Module):
    """Log-mel filterbank → SpecAugment → convolutional subsampling (100 → 50 frames/s).

    Attributes:
        state_size: tensors of a stream's state.
    """

    seconds_per_frame = 0.02
    state_size = 4

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.fbank = Fbank(num_bins=config.fbank_bins)
        self.augment = SpecAugment(config.spec_augment)
        self.subsampling = ConvSubsampling(config.fbank_bins, config.subsampling_dim, isolate_padding=config.isolate_padding)
        self.output_dim = config.subsampling_dim

    def forward(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor]:
        """→ [views·B, T, D] at 50 frames/s, lengths [views·B]."""
        features, lengths = _features(batch, self.fbank)
        features, lengths = self.augment(features, lengths, views), lengths.repeat(views)
        return self.subsampling(features, lengths)

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first sample: the fbank's two tensors, feature frames that wait [B, T, F], the subsampling's."""
        waiting = torch.zeros(batch_size, 0, self.fbank.num_bins, device=device)
        return *self.fbank.init_state(batch_size, device), waiting, *self.subsampling.init_state(batch_size, device)

    def stream(self, audio: Tensor, state: tuple[Tensor, ...], *, least: int = 1, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next samples [B, S], any number of them → the vectors that are due with them [B, n, D], and the state after them.

        Args:
            least: fewer vectors than this are not worth the convolutions, which look at `lookahead` frames anew each time.
            final: the audio ends here. Altogether the vectors are those of `forward`; none where it is too short for one.
        """
        features, sound = self.fbank.stream(audio, state[:2], final=final)
        features, before = torch.cat((state[2], features), dim=1), state[3:]
        lookahead = self.subsampling.lookahead
        size = features.shape[1] if final else features.shape[1] - (features.shape[1] - lookahead) % 2
        if size < (9 if final else lookahead + 2 * least):
            return features.new_zeros(len(features), 0, self.output_dim), (*sound, features, *before)
        out, before = self.subsampling.stream(features[:, :size], before, final=final)
        return out, (*sound, features[:, size if final else size - lookahead:], *before)


class StackedFrontEnd(nn.Module):
    """Log-mel filterbank (or given features) → SpecAugment → stacks of frames → LayerNorm → linear (Gao et al. 2022, "low frame rate")."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.stack, self.stride = config.stack, config.stride
        self.seconds_per_frame = 0.01 * config.stride
        self.fbank = Fbank(num_bins=config.fbank_bins)
        self.augment = SpecAugment(config.spec_augment)
        self.norm = nn.LayerNorm(config.stack * config.fbank_bins)
        self.linear = nn.Linear(config.stack * config.fbank_bins, config.subsampling_dim)
        self.output_dim = config.subsampling_dim

    def forward(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor]:
        """→ [views·B, ceil(T / stride), D], lengths [views·B]."""
        features, lengths = _features(batch, self.fbank)
        features, lengths = self.augment(features, lengths, views), lengths.repeat(views)
        features = features.masked_fill(~lengths_to_mask(lengths, features.shape[1])[..., None], 0.0)
        lengths = (lengths + self.stride - 1) // self.stride
        before = (self.stack - self.stride) // 2
        if torch.compiler.is_exporting():  # the width of the batch stands for the longest, and every frame is taken by its index
            count = (features.shape[1] + self.stride - 1) // self.stride
            index = torch.arange(count, device=features.device)[:, None] * self.stride + torch.arange(self.stack, device=features.device)
            stacks = F.pad(features, (0, 0, before, self.stack))[:, index]
        else:
            after = int(lengths.max() - 1) * self.stride + self.stack - before - features.shape[1]
            stacks = F.pad(features, (0, 0, before, max(after, 0))).unfold(1, self.stack, self.stride)[:, :int(lengths.max())]
            stacks = stacks.transpose(2, 3)
        return self.linear(self.norm(stacks.flatten(2))), lengths


def _features(batch: Batch, fbank: Fbank) -> tuple[Tensor, Tensor]:
    """Features of a batch and their lengths, computed where it holds audio.

    Raises:
        ValueError: features of another width, or cached states.
    """
    if batch.features is not None:
        features, lengths = batch.features.values, batch.features.lengths
        if features.shape[-1] != fbank.num_bins:
            raise ValueError(f"features of {features.shape[-1]} values per frame, and the model was made for {fbank.num_bins} "
                             "(model.front_end.fbank_bins)")
        return features, lengths
    if batch.audio is None:
        raise ValueError("this front end takes audio or features; set cache to false")
    with torch.no_grad():
        return fbank(batch.audio.values, batch.audio.lengths)


def _extractor(config: FrontEndConfig) -> ExtractorFrontEnd:
    return ExtractorFrontEnd(config.features, config.stack, config.stride, config.subsampling_dim, config.spec_augment)


FRONT_ENDS = {"pretrained": PretrainedFrontEnd, "fbank": FbankFrontEnd, "stacked": StackedFrontEnd, "extractor": _extractor}


def build_front_end(config: FrontEndConfig) -> PretrainedFrontEnd | FbankFrontEnd | StackedFrontEnd | ExtractorFrontEnd:
    """The front end a configuration names."""
    return FRONT_ENDS[config.kind](config)
