"""Options of a pretrained encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from voxkit.audio.specaugment import SpecAugmentConfig

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass
class PretrainedConfig:
    """Which encoder, which of its layers learn, and how they are regularized while they do.

    Attributes:
        name: Hugging Face name ("microsoft/wavlm-base-plus") or a folder with config.json and model.safetensors. A checkpoint finds a
            relative folder from where it lies itself, else where it lay in training.
        revision: commit, tag or branch on the hub; empty = the newest. A folder has none.
        unfreeze: Transformer layers that learn, counted from 1: [10, 11, 12] opens the top three of a Base model. The norm
            after the last layer is opened with the last layer.
        states: states the layer mix sees, 0 = what enters layer 1; empty = all (13 of a Base model).
        dtype: precision of the frozen part: float32, autocast to bfloat16 / float16, or auto: half precision where the device computes
            in it. Open layers follow the trainer's.
        normalize: zero mean and unit variance of each utterance before the encoder; null = as preprocessor_config.json
            says. Whisper has a normalization of its own and takes no such option.
        gradient_checkpointing: recompute the open layers in the backward pass: less memory, a third more time.
        dropout: residual dropout in the open layers while training; null = as the checkpoint's configuration says.
        attention_dropout: the same for attention weights.
        activation_dropout: the same inside the feed-forward.
        layerdrop: probability that an open layer is skipped in a training step. With DDP a skipped layer needs
            find_unused_parameters, hence 0.
        mask_time_prob: share of the frames below the lowest open layer that is zeroed in training, in spans, in every state there alike;
            nothing where no layer is open.
        mask_time_length: frames of one span (50 a second).
        mask_time_shared: the views of a batch (CR-CTC) have the same spans, and a front end runs the open layers once for all; false =
            spans of its own for each view, and the open layers run for each.
        chunk: frames that are heard at a time (50 a second): no frame sees past the end of its chunk, so that the encoder streams; 0 = the
            whole utterance is. For WavLM, HuBERT and wav2vec 2.0 whose layers are open: as published they know whole utterances.
        left_context: with chunk, frames before a chunk that its attention sees, whole chunks.
        spec_augment: masking of the log-mel spectrum in training, for encoders that begin with one (Whisper); off by default.
            Cached states are past it.
    """

    name: str = "microsoft/wavlm-base-plus"
    revision: str = ""
    unfreeze: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    dtype: str = "float32"
    normalize: Optional[bool] = None
    gradient_checkpointing: bool = False
    dropout: Optional[float] = None
    attention_dropout: Optional[float] = None
    activation_dropout: Optional[float] = None
    layerdrop: float = 0.0
    mask_time_prob: float = 0.0
    mask_time_length: int = 10
    mask_time_shared: bool = False
    chunk: int = 0
    left_context: int = 64
    spec_augment: SpecAugmentConfig = field(default_factory=lambda: SpecAugmentConfig(prob=0.0))

    def problems(self) -> list[str]:
        """What is wrong before any weight is read; the layer numbers are checked again once the encoder is known."""
        found = []
        if not self.name:
            found.append("name: empty; give a Hugging Face name such as microsoft/wavlm-base-plus, or a folder")
        if self.dtype not in DTYPES:
            found.append(f"dtype: {self.dtype!r} is none of {', '.join(DTYPES)}")
        for option in ("dropout", "attention_dropout", "activation_dropout", "layerdrop", "mask_time_prob"):
            value = getattr(self, option)
            if value is not None and not 0.0 <= value < 1.0:
                found.append(f"{option}: {value} is not in [0, 1)")
        if self.chunk < 0:
            found.append(f"chunk: {self.chunk} frames; 0 = the whole utterance at once")
        elif self.chunk and (self.left_context < self.chunk or self.left_context % self.chunk):
            found.append(f"left_context: {self.left_context} frames are not whole chunks of {self.chunk}")
        if self.mask_time_length < 1:
            found.append(f"mask_time_length: {self.mask_time_length}; at least 1 frame")
        if any(layer < 1 for layer in self.unfreeze):
            found.append(f"unfreeze: {self.unfreeze}; layers are counted from 1")
        if any(state < 0 for state in self.states):
            found.append(f"states: {self.states}; states are counted from 0")
        for option in ("unfreeze", "states"):
            if len(set(getattr(self, option))) != len(getattr(self, option)):
                found.append(f"{option}: {getattr(self, option)} names one twice")
        return found

    def problems_with(self, num_layers: int) -> list[str]:
        """What is wrong for an encoder with this many layers."""
        found = []
        layers = [layer for layer in self.unfreeze if not 1 <= layer <= num_layers]
        if layers:
            found.append(f"unfreeze: no layer {', '.join(map(str, layers))} in {self.name}; valid: 1 to {num_layers}")
        states = [state for state in self.states if not 0 <= state <= num_layers]
        if states:
            found.append(f"states: no state {', '.join(map(str, states))} in {self.name}; valid: 0 to {num_layers}")
        return found
