"""Audio at any rate → features a recognizer adapts on: log-mel or raw frames, normalized by what is known of the speaker.

Statistics are a value: the speaker-adaptive normalization takes those of the utterances before and gives back those after, as fast weights
do. That makes it a cheap adapter to compare them with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchaudio.functional as audio_functions
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask
from voxkit.rate import RATE

KINDS = ("mel", "raw")
NORMALIZATIONS = ("none", "utterance", "global", "speaker")


class Statistics(NamedTuple):
    """Of features heard so far. count [B, 1] frames, total [B, F] their sum, squares [B, F] the sum of their squares."""

    count: Tensor
    total: Tensor
    squares: Tensor


@dataclass
class ExtractorConfig:
    """Attributes:
    kind: mel: log-mel energies; raw: samples, framed with overlap.
    bins: of the mel bank, between low and high Hz (high 0 = half the rate).
    window_ms, hop_ms: of a frame, and from one to the next.
    normalize: none; utterance: zero mean and unit variance of each; global: by statistics of the training data (`fit`); speaker: by what
        was heard of the session before and in this utterance, beside the global statistics as if these were `prior` seconds.
    prior: seconds.
    """

    kind: str = "mel"
    bins: int = 80
    low: float = 20.0
    high: float = 0.0
    window_ms: float = 25.0
    hop_ms: float = 10.0
    normalize: str = "utterance"
    prior: float = 2.0

    def problems(self) -> list[str]:
        found = [] if self.kind in KINDS else [f"kind: {self.kind!r} is none of {', '.join(KINDS)}"]
        if self.normalize not in NORMALIZATIONS:
            found.append(f"normalize: {self.normalize!r} is none of {', '.join(NORMALIZATIONS)}")
        if not 0 < self.hop_ms <= self.window_ms:
            found.append(f"hop_ms: {self.hop_ms:g} is not between 0 and window_ms, {self.window_ms:g}: samples would be skipped")
        if self.bins < 4 or not 0 <= self.low < (self.high or RATE / 2) <= RATE / 2:
            found.append(f"bins: {self.bins} between {self.low:g} and {self.high or RATE / 2:g} Hz; 4 or more, and frequencies in order")
        if self.prior <= 0:
            found.append(f"prior: {self.prior:g} seconds; above 0")
        return found


class AudioFeatureExtractor(nn.Module):
    """Waveforms → features, [B, T, bins] or [B, T, samples of a frame]. What padding holds does not matter.

    Args:
        config: see ExtractorConfig.

    Attributes:
        seconds_per_frame, dim: of what comes out.
        mean, deviation: [F], of `global` and of the prior; 0 and 1 until `fit`.
    """

    def __init__(self, config: ExtractorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ExtractorConfig()
        if found := config.problems():
            raise ValueError("; ".join(found))
        self.window, self.hop = round(config.window_ms * RATE / 1000), round(config.hop_ms * RATE / 1000)
        self.seconds_per_frame = self.hop / RATE
        self.dim = config.bins if config.kind == "mel" else self.window
        self.fft = 1 << (self.window - 1).bit_length()
        self.register_buffer("taper", torch.hann_window(self.window), persistent=False)
        bank = audio_functions.melscale_fbanks(self.fft // 2 + 1, config.low, config.high or RATE / 2, config.bins, RATE)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("deviation", torch.ones(self.dim))

    def forward(self, audio: Tensor, lengths: Tensor, rate: int = RATE,
                before: Statistics | None = None) -> tuple[Tensor, Tensor, Statistics]:
        """Args:
            audio: [B, S] in [-1, 1]; lengths: [B]; rate: of the samples, Hz.
            before: statistics of the utterances before, of the same speakers; None = nothing was heard.

        Returns:
            features [B, T, F], zero past the lengths [B], and the statistics after these utterances.

        Raises:
            ValueError: no rate.
        """
        if rate <= 0:
            raise ValueError(f"a rate of {rate} Hz: give that of the audio, e.g. 8000")
        if rate != RATE:
            audio = audio.masked_fill(~lengths_to_mask(lengths, audio.shape[1]), 0.0)
            audio = audio_functions.resample(audio, rate, RATE)
            lengths = -(-lengths * RATE // rate)
        x, lengths = self._frames(audio, lengths)
        valid = lengths_to_mask(lengths, x.shape[1])[..., None]
        x = x.masked_fill(~valid, 0.0)
        own = Statistics(lengths[:, None].to(x.dtype), x.sum(1), x.square().sum(1))
        after = own if before is None else Statistics(*(a + b for a, b in zip(before, own)))
        return self._normalized(x, own, after).masked_fill(~valid, 0.0), lengths, after

    @torch.no_grad()
    def fit(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        """Mean and deviation of training audio: (audio [B, S], lengths [B]) at 16 kHz."""
        count, total, squares = 0.0, torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for audio, lengths in batches:
            x, lengths = self._frames(audio, lengths)
            x = x.masked_fill(~lengths_to_mask(lengths, x.shape[1])[..., None], 0.0)
            count, total, squares = count + float(lengths.sum()), total + x.sum((0, 1)), squares + x.square().sum((0, 1))
        if count == 0:
            raise ValueError("there is no audio to take statistics of")
        self.mean.copy_(total / count)
        self.deviation.copy_((squares / count - self.mean.square()).clamp(min=1e-8).sqrt())

    def _frames(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Before normalization; a signal shorter than a frame is one frame, filled up with zeros."""
        audio = audio.float().masked_fill(~lengths_to_mask(lengths, audio.shape[1]), 0.0)
        frames = ((lengths - self.window).clamp(min=0) + self.hop - 1) // self.hop + (lengths > 0).long()
        most = int(frames.max()) if len(frames) else 0
        audio = F.pad(audio, (0, max(0, (most - 1) * self.hop + self.window - audio.shape[1])))
        if most == 0:
            return audio.new_zeros(len(audio), 0, self.dim), frames
        x = audio.unfold(1, self.window, self.hop)[:, :most]
        if self.config.kind == "mel":
            power = torch.fft.rfft(x * self.taper, self.fft).abs().square()
            x = (power @ self.bank).clamp(min=1e-10).log()
        return x, frames

    def _normalized(self, x: Tensor, own: Statistics, after: Statistics) -> Tensor:
        how = self.config.normalize
        if how == "none":
            return x
        if how == "global":
            return (x - self.mean) / self.deviation
        known = own
        if how == "speaker":
            weight = self.config.prior / self.seconds_per_frame
            second = self.deviation.square() + self.mean.square()
            known = Statistics(after.count + weight, after.total + weight * self.mean, after.squares + weight * second)
        count = known.count.clamp(min=1)
        mean = known.total / count
        deviation = (known.squares / count - mean.square()).clamp(min=1e-8).sqrt()
        return (x - mean[:, None]) / deviation[:, None].clamp(min=math.sqrt(1e-8))
