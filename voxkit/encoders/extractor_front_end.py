"""Front end on `AudioFeatureExtractor`: audio → mel or raw frames, normalized by utterance, data or speaker → stacks of frames → linear."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.audio.extractor import AudioFeatureExtractor, ExtractorConfig, Statistics
from voxkit.audio.specaugment import SpecAugment, SpecAugmentConfig
from voxkit.batch import Batch, turns
from voxkit.masks import lengths_to_mask

_SETTLED = 360_000  # frames of training audio after which the statistics of the data stay as they are: an hour at 100 a second


class ExtractorFrontEnd(nn.Module):
    """Statistics of the data are gathered in the first hour of training audio and saved with the model. A speaker's go from row to
    row of a batch that names sessions.

    Args:
        config: of the features.
        stack, stride: frames put side by side, and how far apart the stacks begin.
        dim: width out.
        spec_augment: masking in training, of mel features.
    """

    def __init__(self, config: ExtractorConfig, stack: int, stride: int, dim: int, spec_augment: SpecAugmentConfig) -> None:
        super().__init__()
        self.extractor = AudioFeatureExtractor(config)
        self.stack, self.stride, self.output_dim = stack, stride, dim
        self.seconds_per_frame = stride * self.extractor.seconds_per_frame
        self.augment = SpecAugment(spec_augment) if config.kind == "mel" else None
        self.linear = nn.Linear(stack * self.extractor.dim, dim)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("total", torch.zeros(self.extractor.dim))
        self.register_buffer("squares", torch.zeros(self.extractor.dim))

    def forward(self, batch: Batch, views: int = 1) -> tuple[Tensor, Tensor]:
        """→ [views·B, ceil(T / stride), D], lengths [views·B].

        Raises:
            ValueError: a batch without audio.
        """
        if batch.audio is None:
            raise ValueError("this front end takes audio; set data.input to audio")
        with torch.no_grad():
            x, lengths = self._features(batch)
        if self.augment is not None:
            x = self.augment(x, lengths, views)
        else:
            x = x.repeat(views, 1, 1)
        lengths = lengths.repeat(views)
        x = x.masked_fill(~lengths_to_mask(lengths, x.shape[1])[..., None], 0.0)
        lengths = (lengths + self.stride - 1) // self.stride
        before = (self.stack - self.stride) // 2
        after = int(lengths.max() - 1) * self.stride + self.stack - before - x.shape[1]
        stacks = F.pad(x, (0, 0, before, max(after, 0))).unfold(1, self.stack, self.stride)[:, :int(lengths.max())]
        return self.linear(stacks.transpose(2, 3).flatten(2)), lengths

    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.audio is not None
        how, audio, lengths = self.extractor.config.normalize, batch.audio.values, batch.audio.lengths
        if how in ("none", "utterance"):
            return self.extractor(audio, lengths)[:2]
        x, frames, own = self.extractor(audio, lengths)
        if self.training and self.seen < _SETTLED:
            self._gather(own)
            x, frames, own = self.extractor(audio, lengths)
        if how == "global" or batch.sessions is None:
            return x, frames
        before = Statistics(*(torch.zeros_like(values) for values in own))
        rows_before: dict[str, int] = {}
        for rows in turns(batch.sessions):
            for row in rows:
                if (last := rows_before.get(batch.sessions[row])) is not None:
                    for target, had, said in zip(before, before, own):
                        target[row] = had[last] + said[last]
                rows_before[batch.sessions[row]] = row
        return self.extractor(audio, lengths, before=before)[:2]

    def _gather(self, own: Statistics) -> None:
        """Add to the statistics of the data."""
        self.seen += own.count.sum()
        self.total += own.total.sum(0)
        self.squares += own.squares.sum(0)
        self.extractor.mean.copy_(self.total / self.seen)
        self.extractor.deviation.copy_((self.squares / self.seen - self.extractor.mean.square()).clamp(min=1e-8).sqrt())
