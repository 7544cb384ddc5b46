"""A listener made of a front end and an encoder that learns: what VoxFormer and Paraformer have in common."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from voxkit.audio.fbank import Fbank
from voxkit.batch import Batch
from voxkit.decoders.intermediate_ctc import IntermediateCtc
from voxkit.encoders.front_end import FbankFrontEnd, PretrainedFrontEnd, StackedFrontEnd
from voxkit.encoders.pretrained import pretrained_encoder
from voxkit.models.contract import Encoded, Listener, Losses
from voxkit.nn.scheduled import set_batch_count
from voxkit.rate import RATE
from voxkit.system import TokenIds


class HeardBatch(NamedTuple):
    """What front end and encoder make of a batch.

    Attributes:
        states: [views·B, T', D]; lengths: [views·B].
        read: log-probabilities [views·B, T, V] of each CTC head half-way up; read_lengths: [views·B].
    """

    states: Tensor
    lengths: Tensor
    read: list[Tensor]
    read_lengths: Tensor


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

    def set_step(self, step: int) -> None:
        """Tell the model which optimizer step this is: the loss and the encoder's schedules follow it."""
        super().set_step(step)
        for part in (self.encoder, self.front_end):
            set_batch_count(part, self.schedule_offset + step)

    @property
    def max_seconds(self) -> float | None:
        """The longest utterance that training takes: what the pretrained encoder takes at a time."""
        encoder = pretrained_encoder(self)
        most = encoder.backbone.max_samples if encoder is not None else 0
        return most / RATE if most else None

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's layers and the open layers of a pretrained one in the backward pass: less memory, a third more time."""
        for part in getattr(self.encoder, "stacks", (self.encoder,)):
            part.checkpointing = True
        for external in self.externals().values():
            external.enable_activation_checkpointing()

    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch; in training of several views of it, where the system compares them."""
        return self.loss_of(batch, self.hear(batch, self.views))

    def loss_of(self, batch: Batch, heard: HeardBatch) -> Losses:
        """The loss of what was heard of a batch."""
        raise NotImplementedError

    @property
    def views(self) -> int:
        """How often the batch is heard for one loss, masked anew each time."""
        return 1

    def loss_and_states(self, batch: Batch) -> tuple[Losses, Encoded]:
        """Both of a batch, which is heard once."""
        heard = self.hear(batch)
        return self.loss_of(batch, heard), Encoded(heard.states, heard.lengths, self._seconds(batch, heard.lengths))

    def encode(self, batch: Batch, carried: Any = None) -> Encoded:
        """A batch → states [B, T', D]. Where CTC heads half-way up are self-conditioned, what they read takes part. Nothing is carried."""
        heard = self.hear(batch)
        return Encoded(heard.states, heard.lengths, self._seconds(batch, heard.lengths))

    def _seconds(self, batch: Batch, lengths: Tensor) -> Tensor:
        """[B] of the batch's audio; of cached states, as far as the encoder's frames tell."""
        if batch.states is not None:
            return lengths * self.seconds_per_frame
        return batch.input.lengths / (RATE if batch.audio is not None else Fbank.frames_per_second)

    def hear(self, batch: Batch, views: int = 1) -> HeardBatch:
        """Front end and encoder on a batch.

        Args:
            views: the whole batch again and again, masked anew each time.
        """
        x, lengths = self.front_end(batch, views)
        if self.intermediate is None:
            return HeardBatch(*self.encoder(x, lengths), [], lengths)
        read: list[Tensor] = []
        between = partial(self._between, read)
        states, states_lengths = self.encoder(between(0, x), lengths, between)
        return HeardBatch(states, states_lengths, read, lengths)

    def _between(self, read: list[Tensor], place: int, x: Tensor) -> Tensor:
        """States [B, T, D] at a place of the encoder → what goes on; what a CTC head reads there is appended to `read`."""
        if self.intermediate is None:
            return x
        x, log_probs = self.intermediate(place, x)
        if log_probs is not None:
            read.append(log_probs)
        return x


def check_tokens(tokens: TokenIds) -> None:
    """Refuse a vocabulary that the CTC losses and heads cannot work with.

    Raises:
        ValueError: its blank is not token 0, sentences have no begin or end, or nothing is left beside these.
    """
    if tokens.blank != 0 or tokens.bos is None or tokens.eos is None:
        raise ValueError("this system needs a tokenizer whose token 0 is the blank, with tokens for begin and end of a sentence; "
                         "`voxkit tokenize` makes one")
    if tokens.size < 4:
        raise ValueError(f"model.vocab_size: {tokens.size} leaves no pieces; give the tokenizer, or its size")
