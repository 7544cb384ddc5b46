"""What a model is: something with a loss over batches, and if it turns audio into text, a listener with heads that searches read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.checkpoint.external import External, externals, left_out
from voxkit.checkpoint.format import checkpoint_state
from voxkit.search.heads import Heads
from voxkit.text.vocabulary import Vocabulary


class Losses(NamedTuple):
    """What a model says of a batch. Over several batches, `total` and `parts` are means weighted by `weight`, and those are what one large
    batch would give: a part that is a mean over another unit than `weight` counts is scaled by `Batch.whole`.

    Attributes:
        total: scalar, what is minimized, a mean over `weight` units (tokens, utterances).
        weight: how many units.
        parts: name → scalar without gradient, a mean over the same units.
        metrics: name → (sum, count): the mean over several batches is the sum of the sums by the sum of the counts.
    """

    total: Tensor
    weight: Tensor
    parts: Mapping[str, Tensor] = {}
    metrics: Mapping[str, tuple[Tensor, Tensor]] = {}


class Encoded(NamedTuple):
    """What a listener makes of a batch before any search.

    Attributes:
        states: [B, T', D]; lengths: [B] of them; seconds: [B] of audio.
        carried: what goes on to the next utterances of the same sessions; None where a model carries nothing.
    """

    states: Tensor
    lengths: Tensor
    seconds: Tensor
    carried: Any = None


class SpeechModel(nn.Module):
    """Everything that can be trained.

    Attributes:
        step: of the optimizer, in this stage.
        schedule_offset: steps of the stages before: schedules that follow the step go on, not back to their start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step = self.schedule_offset = 0

    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch; the result depends on no padding.

        Raises:
            ValueError: the batch lacks what this model reads.
        """
        raise NotImplementedError

    def set_step(self, step: int) -> None:
        """Tell the model which optimizer step this is."""
        self.step = step

    def begin_training(self, vocabulary: Vocabulary) -> None:
        """Called once before the first step: what training needs and using the trained model does not.

        Raises:
            MissingPackage: a loss needs a package that is not there.
        """

    def externals(self) -> dict[str, External]:
        """Its parts with pretrained weights, by their place in it."""
        return externals(self)

    def frozen_names(self) -> set[str]:
        """Names of parameters and buffers that a checkpoint references and does not copy."""
        return left_out(self)

    def checkpoint_state_dict(self) -> dict[str, Tensor]:
        """All weights but the referenced ones."""
        return checkpoint_state(self)


class Listener(SpeechModel):
    """Turns audio into states that searches read."""

    @property
    def heads(self) -> Heads:
        """What searches read the states by."""
        raise NotImplementedError

    @property
    def seconds_per_frame(self) -> float:
        """Of the states that `encode` gives."""
        raise NotImplementedError

    @property
    def max_seconds(self) -> float | None:
        """The longest utterance that training takes (Whisper's encoder: 30 s); None: any."""
        return None

    def loss_and_states(self, batch: Batch) -> tuple[Losses, Encoded]:
        """Both of a batch, for validation; models that share the work override it."""
        return self.loss(batch), self.encode(batch)

    def encode(self, batch: Batch, carried: Any = None) -> Encoded:
        """A batch → states; `carried`: what the utterances before of the same sessions left."""
        raise NotImplementedError

    def not_streaming(self) -> str | None:
        """Why this model cannot take its audio as it comes, and which one can; None where it can, by `init_state` and `stream`."""
        return (f"a {type(self).__name__} does not stream: its decoder takes the whole utterance; a causal VoxFormer does "
                "(docs/training.md, Causal models)")

    def most_tokens(self, seconds: float) -> float:
        """How many tokens an utterance of so many seconds can have at the most; no limit by default."""
        return float("inf")
