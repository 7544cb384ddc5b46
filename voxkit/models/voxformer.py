"""VoxFormer: front end → Zipformer → CTC head + Transformer decoder, trained with the hybrid loss.

    audio ─ frozen encoder ─ layer-weighted sum ─ adapter ─┐
    audio ─ fbank ─ convolutional subsampling ─────────────┴─ Zipformer ─┬─ CTC head
                                                                         └─ Transformer decoder
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.config import structure
from voxkit.decoders.transformer import TransformerDecoder, TransformerDecoderConfig
from voxkit.encoders.front_end import FrontEndConfig, build_front_end
from voxkit.encoders.zipformer import Zipformer, ZipformerConfig, from_preset, set_batch_count
from voxkit.losses.hybrid import HybridLossConfig, ctc_loss, label_smoothed_cross_entropy, token_accuracy


@dataclass
class VoxFormerConfig:
    """Attributes:
    vocab_size: pieces of the tokenizer, blank (0), bos (1) and eos (2) among them; 0 = as the tokenizer says.
    front_end: where the vectors come from.
    encoder: Zipformer: `preset` (plan, S, M, L, mini, toy) and any field of ZipformerConfig to change.
    decoder: the attention decoder; left out where loss.attention and loss.start_attention are 0.
    loss: the hybrid weights.
    dropout: on the states before the CTC head, in training.
    ctc_blank_bias: start value of the head's bias for blank; below 0 makes blanks rarer at the start, a remedy where
        training sits on a plateau of blanks.
    """

    vocab_size: int = 0
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    encoder: dict[str, Any] = field(default_factory=lambda: {"preset": "plan"})
    decoder: TransformerDecoderConfig = field(default_factory=TransformerDecoderConfig)
    loss: HybridLossConfig = field(default_factory=HybridLossConfig)
    dropout: float = 0.1
    ctc_blank_bias: float = 0.0

    def zipformer(self, input_dim: int) -> ZipformerConfig:
        """The encoder's configuration for a front end of this width."""
        changes = {k: v for k, v in self.encoder.items() if k != "preset"}
        preset = from_preset(self.encoder.get("preset", "plan"), input_dim=input_dim)
        return structure(ZipformerConfig, {**vars(preset), **changes}, "model.encoder")


class VoxFormer(nn.Module):
    """The hybrid CTC/attention recogniser.

    Args:
        config: with vocab_size set.

    Raises:
        ConfigError: an encoder option that does not exist; ValueError: no vocabulary.
    """

    def __init__(self, config: VoxFormerConfig) -> None:
        super().__init__()
        if config.vocab_size < 4:
            raise ValueError(f"model.vocab_size: {config.vocab_size} leaves no pieces; give the tokenizer, or its size")
        self.config = config
        self.front_end = build_front_end(config.front_end)
        self.encoder = Zipformer(config.zipformer(self.front_end.output_dim))
        self.dropout = nn.Dropout(config.dropout)
        self.ctc = nn.Linear(self.encoder.output_dim, config.vocab_size)
        with torch.no_grad():
            self.ctc.bias[0] += config.ctc_blank_bias
        uses_decoder = config.loss.attention > 0 or config.loss.start_attention > 0
        self.decoder = TransformerDecoder(config.decoder, config.vocab_size, self.encoder.output_dim) if uses_decoder else None
        self.step = 0
        self.schedule_offset = 0  # steps of the stages before: the encoder's dropout and layer skipping go on, not back to their start

    @property
    def seconds_per_frame(self) -> float:
        """Of the encoder's output."""
        return self.front_end.seconds_per_frame * self.encoder.config.output_downsampling

    def set_step(self, step: int) -> None:
        """Tell the model which optimiser step this is: the loss weights and the encoder's schedules follow it."""
        self.step = step
        set_batch_count(self.encoder, self.schedule_offset + step)
        set_batch_count(self.front_end, self.schedule_offset + step)

    def enable_activation_checkpointing(self) -> None:
        """Recompute the layers of the Zipformer and the open layers of the pretrained encoder in the backward pass: less memory, a third
        more time."""
        for stack in self.encoder.stacks:
            stack.checkpointing = True
        pretrained = getattr(self.front_end, "pretrained", None)
        if pretrained is not None:
            pretrained.config.gradient_checkpointing = True

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """→ states [B, T', D], lengths [B]."""
        x, lengths = self.front_end(batch)
        return self.encoder(x, lengths)

    def ctc_log_probs(self, states: Tensor) -> Tensor:
        """states [B, T', D] → [B, T', V], float32."""
        return self.ctc(self.dropout(states)).float().log_softmax(-1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Hybrid loss per token: nats; "accuracy" is of the next token, teacher-forced, "weight" the tokens counted."""
        states, lengths = self.encode(batch)
        tokens, token_lengths = batch.tokens, batch.token_lengths
        num_tokens = token_lengths.sum().clamp(min=1)
        ctc_weight, attention_weight = self.config.loss.weights(self.step)
        ctc = ctc_loss(self.ctc_log_probs(states), lengths, tokens, token_lengths).sum() / num_tokens
        out = {"loss": ctc_weight * ctc, "ctc": ctc.detach(), "weight": num_tokens}
        if self.decoder is not None and attention_weight > 0:
            inputs, targets, target_lengths = self.decoder.teacher_forcing(tokens, token_lengths)
            logits = self.decoder(inputs, states, lengths)
            smoothing = self.config.loss.label_smoothing
            attention = label_smoothed_cross_entropy(logits, targets, smoothing).sum() / target_lengths.sum()
            out["loss"] = out["loss"] + attention_weight * attention
            out |= {"attention": attention.detach(), "accuracy": token_accuracy(logits, targets)}
        return out

    def frozen_names(self) -> set[str]:
        """Names of parameters and buffers that belong to a frozen pretrained encoder: referenced by a checkpoint, not copied into it."""
        pretrained = getattr(self.front_end, "pretrained", None)
        if pretrained is None:
            return set()
        return {f"front_end.pretrained.{name}" for name in pretrained.frozen_parameter_names()}

    def checkpoint_state_dict(self) -> dict[str, Tensor]:
        """All weights but the frozen pretrained ones."""
        frozen = self.frozen_names()
        return {name: value for name, value in self.state_dict().items() if name not in frozen}
