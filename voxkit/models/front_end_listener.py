"""A listener made of a front end and an encoder that learns: what VoxFormer and Paraformer have in common."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from voxkit.audio.fbank import Fbank
from voxkit.batch import Batch
from voxkit.decoders.intermediate_ctc import IntermediateCtc
from voxkit.encoders.front_end import FbankFrontEnd, PretrainedFrontEnd, StackedFrontEnd
from voxkit.models.contract import Encoded, Listener
from voxkit.nn.scheduled import set_batch_count
from voxkit.rate import RATE


class FrontEndListener(Listener):
    """Front end → encoder, with CTC heads half-way up where a system sets them.

    Args:
        front_end: a batch → [B, T, D], lengths [B].
        encoder: [B, T, D], lengths → states [B, T', D'], lengths.

    Attributes:
        intermediate: CTC heads below the end of the encoder, where a system sets them.
    """

    def __init__(self, front_end: PretrainedFrontEnd | FbankFrontEnd | StackedFrontEnd, encoder: nn.Module) -> None:
        super().__init__()
        self.front_end, self.encoder = front_end, encoder
        self.intermediate: IntermediateCtc | None = None

    @property
    def seconds_per_frame(self) -> float:
        """Of the encoder's output."""
        return self.front_end.seconds_per_frame * self.encoder.downsampling

    @property
    def seconds_per_ctc_frame(self) -> float:
        """Of the slowest CTC head: those half-way up read the front end's frames, and a text must fit into these."""
        return max(self.seconds_per_frame, self.front_end.seconds_per_frame if self.intermediate is not None else 0.0)

    def set_step(self, step: int) -> None:
        """Tell the model which optimizer step this is: the loss and the encoder's schedules follow it."""
        super().set_step(step)
        for part in (self.encoder, self.front_end):
            set_batch_count(part, self.schedule_offset + step)

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's layers and the open layers of a pretrained one in the backward pass: less memory, a third more time."""
        for part in getattr(self.encoder, "stacks", (self.encoder,)):
            part.checkpointing = True
        for external in self.externals().values():
            external.enable_activation_checkpointing()

    def encode(self, batch: Batch, carried: Any = None) -> Encoded:
        """A batch → states [B, T', D]. Where CTC heads half-way up are self-conditioned, what they read takes part. Nothing is carried."""
        states, lengths = self.encode_and_read(batch)[:2]
        return Encoded(states, lengths, self._seconds(batch, lengths))

    def _seconds(self, batch: Batch, lengths: Tensor) -> Tensor:
        """[B] of the batch's audio; of cached states, as far as the encoder's frames tell."""
        if batch.states is not None:
            return lengths * self.seconds_per_frame
        return batch.input.lengths / (RATE if batch.audio is not None else Fbank.frames_per_second)

    def encode_and_read(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """states [views·B, T', D], lengths [views·B], and log-probabilities [views·B, T, V] of the CTC heads half-way up, lengths of these.

        Args:
            views: the whole batch again and again, masked anew each time.
        """
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


def check_vocab_size(size: int) -> None:
    """
    Raises:
        ValueError: it leaves no pieces beside pad, bos and eos.
    """
    if size < 4:
        raise ValueError(f"model.vocab_size: {size} leaves no pieces; give the tokenizer, or its size")
