"""What every recogniser has: a front end, an encoder, their schedules, and a checkpoint without the frozen pretrained weights."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.decoders.intermediate_ctc import IntermediateCtc
from voxkit.encoders.front_end import FbankFrontEnd, PretrainedFrontEnd, StackedFrontEnd
from voxkit.nn.scheduled import set_batch_count


class Recogniser(nn.Module):
    """Base of the systems.

    Args:
        front_end: a batch → [B, T, D], lengths [B].
        encoder: [B, T, D], lengths → states [B, T', D'], lengths.

    Attributes:
        intermediate: CTC heads below the end of the encoder, where a system sets them.
        step: of the optimiser, in this stage.
        schedule_offset: steps of the stages before: the encoder's dropout and layer skipping go on, not back to their start.
    """

    def __init__(self, front_end: PretrainedFrontEnd | FbankFrontEnd | StackedFrontEnd, encoder: nn.Module) -> None:
        super().__init__()
        self.front_end, self.encoder = front_end, encoder
        self.intermediate: IntermediateCtc | None = None
        self.step = self.schedule_offset = 0

    @property
    def seconds_per_frame(self) -> float:
        """Of the encoder's output."""
        return self.front_end.seconds_per_frame * self.encoder.downsampling

    @property
    def seconds_per_ctc_frame(self) -> float:
        """Of the slowest CTC head: those half-way up read the front end's frames, and a text must fit into these."""
        return max(self.seconds_per_frame, self.front_end.seconds_per_frame if self.intermediate is not None else 0.0)

    def set_step(self, step: int) -> None:
        """Tell the model which optimiser step this is: the loss and the encoder's schedules follow it."""
        self.step = step
        for part in (self.encoder, self.front_end):
            set_batch_count(part, self.schedule_offset + step)

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's layers and the open layers of a pretrained one in the backward pass: less memory, a third more time."""
        for part in getattr(self.encoder, "stacks", (self.encoder,)):
            part.checkpointing = True
        pretrained = getattr(self.front_end, "pretrained", None)
        if pretrained is not None:
            pretrained.config.gradient_checkpointing = True

    def encode(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor]:
        """→ states [B, T', D], lengths [B]; with several views [views·B, T', D]: the whole batch again and again, masked anew each time.
        Where CTC heads half-way up are self-conditioned, what they read takes part."""
        return self.encode_and_read(batch, views)[:2]

    def encode_and_read(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """states [B, T', D], lengths [B], and log-probabilities [B, T, V] of the CTC heads half-way up, lengths [B] of these."""
        x, lengths = self.front_end(batch, views)
        if self.intermediate is None:
            return *self.encoder(x, lengths), [], lengths
        read: list[Tensor] = []
        between = partial(self._between, read)
        states, states_lengths = self.encoder(between(0, x), lengths, between)
        return states, states_lengths, read, lengths

    def _between(self, read: list[Tensor], place: int, x: Tensor) -> Tensor:
        """States [B, T, D] at a place of the encoder → what goes on; what a CTC head reads there is appended to `read`."""
        if self.intermediate is None:
            return x
        x, log_probs = self.intermediate(place, x)
        if log_probs is not None:
            read.append(log_probs)
        return x

    def frozen_names(self) -> set[str]:
        """Names of parameters and buffers that belong to a frozen pretrained encoder: referenced by a checkpoint, not copied into it."""
        pretrained = getattr(self.front_end, "pretrained", None)
        return {f"front_end.pretrained.{name}" for name in pretrained.frozen_names()} if pretrained is not None else set()

    def checkpoint_state_dict(self) -> dict[str, Tensor]:
        """All weights but the frozen pretrained ones."""
        frozen = self.frozen_names()
        return {name: value for name, value in self.state_dict().items() if name not in frozen}


def check_vocab_size(size: int) -> None:
    """
    Raises:
        ValueError: it leaves no pieces beside pad, bos and eos.
    """
    if size < 4:
        raise ValueError(f"model.vocab_size: {size} leaves no pieces; give the tokenizer, or its size")
