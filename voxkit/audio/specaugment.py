"""Masking in training: SpecAugment on filterbanks (Park et al. 2019, arXiv 1904.08779), and the same idea on encoder states.

Masks lie within an utterance's valid frames, and their number grows with its length (Park et al. 2020, arXiv 1912.05533).
All randomness comes from torch's global CPU generator, so a restored generator repeats every mask, on any device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask


@dataclass
class SpecAugmentConfig:
    """Attributes:
    prob: of an utterance being masked at all.
    time_masks: at most so many in an utterance; time_mask_width: frames (of 10 ms) each covers at most.
    time_mask_ratio: of an utterance's frames, what the time masks cover at most, together.
    freq_masks: bands; freq_mask_width: mel bins each covers at most.
    time_warp: frames by which a point within the utterance is moved at most; 0 = off.
    """

    prob: float = 0.9
    time_masks: int = 10
    time_mask_width: int = 100
    time_mask_ratio: float = 0.15
    freq_masks: int = 2
    freq_mask_width: int = 27
    time_warp: int = 80

    def problems(self) -> list[str]:
        return _problems(self, ("time_masks", "time_mask_width", "freq_masks", "freq_mask_width", "time_warp"))


@dataclass
class StateMaskConfig:
    """Attributes:
    prob: of an utterance being masked at all.
    time_masks: at most so many in an utterance; time_mask_width: frames (of 20 ms) each covers at most.
    time_mask_ratio: of an utterance's frames, what the time masks cover at most, together.
    channel_masks: groups of neighboring channels; channel_mask_width: channels each covers at most.
    """

    prob: float = 0.9
    time_masks: int = 10
    time_mask_width: int = 20
    time_mask_ratio: float = 0.15
    channel_masks: int = 2
    channel_mask_width: int = 64

    def problems(self) -> list[str]:
        return _problems(self, ("time_masks", "time_mask_width", "channel_masks", "channel_mask_width"))


class SpecAugment(nn.Module):
    """Time warping, then time and frequency masks filled with the utterance's mean. Does nothing in eval mode."""

    def __init__(self, config: SpecAugmentConfig | None = None) -> None:
        super().__init__()
        self.config = config or SpecAugmentConfig()

    def forward(self, features: Tensor, lengths: Tensor, views: int = 1) -> Tensor:
        """features [B, T, F], lengths [B] → [views·B, T, F]; frames past the lengths stay as they are.

        Several views of an utterance are warped alike, so that their frames correspond, and masked each by itself.
        """
        c = self.config
        if not self.training or c.prob <= 0:
            return features if views == 1 else features.repeat(views, 1, 1)
        chosen = (torch.rand(len(features)) < c.prob).to(features.device)
        if c.time_warp:
            features = torch.where(chosen[:, None, None], time_warp(features, lengths, c.time_warp), features)
        features, lengths, chosen = features.repeat(views, 1, 1), lengths.repeat(views), chosen.repeat(views)
        size, frames, bins = features.shape
        hidden = time_mask(lengths, frames, c.time_masks, c.time_mask_width, c.time_mask_ratio)[:, :, None]
        hidden = hidden | span_mask(size, bins, c.freq_masks, c.freq_mask_width).to(features.device)[:, None, :]
        valid = lengths_to_mask(lengths, frames)[:, :, None]
        mean = (features * valid).sum(dim=(1, 2), keepdim=True) / (lengths.clamp(min=1)[:, None, None] * bins)
        return torch.where(hidden & valid & chosen[:, None, None], mean.to(features.dtype), features)


class StateMask(nn.Module):
    """Time and channel masks on encoder states, filled with zeros. Does nothing in eval mode."""

    def __init__(self, config: StateMaskConfig | None = None) -> None:
        super().__init__()
        self.config = config or StateMaskConfig()

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states [B, T, D], lengths [B] → [B, T, D]."""
        c = self.config
        if not self.training or c.prob <= 0:
            return states
        size, frames, dim = states.shape
        chosen = (torch.rand(size) < c.prob).to(states.device)
        hidden = time_mask(lengths, frames, c.time_masks, c.time_mask_width, c.time_mask_ratio)[:, :, None]
        hidden = hidden | span_mask(size, dim, c.channel_masks, c.channel_mask_width).to(states.device)[:, None, :]
        return states.masked_fill(hidden & chosen[:, None, None], 0.0)


def time_mask(lengths: Tensor, frames: int, masks: int, width: int, ratio: float) -> Tensor:
    """Spans within each utterance → [B, frames], True = masked.

    Of n frames at most `ratio`·n are masked: as many spans as fit at full width (one for the shortest, but at most `masks`),
    each of uniform width up to an equal share of them.
    """
    size = lengths.shape[0]
    draws = torch.rand(2, size, masks).to(lengths.device)
    if not masks or not width or ratio <= 0:
        return torch.zeros(size, frames, dtype=torch.bool, device=lengths.device)
    most = (lengths * ratio).floor()
    count = (most / width).ceil().clamp(min=1, max=masks)
    widest = (most / count).floor().clamp(max=width)
    widths = (draws[0] * (widest[:, None] + 1)).floor()
    widths = widths * (torch.arange(masks, device=lengths.device) < count[:, None])
    starts = (draws[1] * (lengths[:, None] - widths + 1)).floor()
    return _spans(starts, widths, frames)


def span_mask(size: int, extent: int, masks: int, width: int) -> Tensor:
    """`masks` spans of uniform width up to `width`, in each of `size` rows → [size, extent] on the CPU, True = masked."""
    draws = torch.rand(2, size, masks)
    widths = (draws[0] * (min(width, extent) + 1)).floor()
    starts = (draws[1] * (extent - widths + 1)).floor()
    return _spans(starts, widths, extent)


def time_warp(features: Tensor, lengths: Tensor, most: int) -> Tensor:
    """Move a random point of each utterance by up to `most` frames and stretch what lies on either side, linearly.

    Utterances of at most 2·`most` frames + 2 are warped by less: a quarter of their length. Frames past the lengths stay.
    """
    size, frames, _ = features.shape
    draws = torch.rand(2, size).to(features.device)
    length = lengths.to(features.dtype if features.dtype == torch.float64 else torch.float32)
    reach = torch.minimum(torch.full_like(length, float(most)), (length / 4).floor())
    center = (reach + 1 + draws[0] * (length - 2 * reach - 2).clamp(min=0)).floor()
    moved = (center + ((draws[1] * 2 - 1) * reach).round()).clamp(min=1)
    moved = torch.minimum(moved, (length - 1).clamp(min=1))
    t = torch.arange(frames, device=features.device, dtype=length.dtype)[None, :]
    last = (length - 1).clamp(min=0)[:, None]
    c, m = center[:, None], moved[:, None]
    source = torch.where(t < m, t * c / m, c + (t - m) * (last - c) / (last - m).clamp(min=1))
    source = torch.where(t < length[:, None], source.clamp(min=0).minimum(last), t)
    low = source.floor().long().clamp(max=frames - 1)
    high = (low + 1).clamp(max=frames - 1)
    weight = (source - low)[..., None].to(features.dtype)
    width = features.shape[-1]
    take = lambda index: features.gather(1, index[..., None].expand(-1, -1, width))  # noqa: E731
    return torch.lerp(take(low), take(high), weight)


def _spans(starts: Tensor, widths: Tensor, extent: int) -> Tensor:
    """starts, widths [B, N] → [B, extent], True within any span."""
    t = torch.arange(extent, device=starts.device)[None, None, :]
    return ((t >= starts[..., None]) & (t < (starts + widths)[..., None])).any(dim=1)


def _problems(config: SpecAugmentConfig | StateMaskConfig, counts: tuple[str, ...]) -> list[str]:
    found = [f"{name}: {getattr(config, name)} is negative; 0 switches it off" for name in counts if getattr(config, name) < 0]
    shares = {name: getattr(config, name) for name in ("prob", "time_mask_ratio")}
    return found + [f"{name}: {value} is not in [0, 1]" for name, value in shares.items() if not 0 <= value <= 1]
