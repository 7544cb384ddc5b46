"""The codec that needs no training: k-means books on log-mel frames, one on what the other leaves over, and Griffin-Lim.

Every trained codec is printed beside it at the same rate: what it does not beat, training has not bought.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.batch import Padded
from voxkit.codecs.contract import Codec
from voxkit.codecs.quantizer import QuantizerConfig, ResidualVQ
from voxkit.codecs.spectrum import Spectrum, griffin_lim
from voxkit.rate import RATE


class KMeansCodec(Codec):
    """Log-mels, `stack` to a frame, quantized as they are.

    Args:
        stack: log-mel frames, 100 a second, to a frame of codes.
        codebooks, size: books and their entries.
        iterations: of Griffin-Lim.
    """

    sample_rate = RATE

    def __init__(self, stack: int = 2, codebooks: int = 8, size: int = 1024, iterations: int = 32) -> None:
        super().__init__()
        self.space = Spectrum()
        self.stack, self.iterations, self.codebooks, self.size = stack, iterations, codebooks, size
        self.hop = stack * self.space.hop
        self.frame_rate = RATE / self.hop
        self.quantizer = ResidualVQ(QuantizerConfig(codebooks=codebooks, size=size, dim=stack * self.space.mels))

    def fit(self, audio: Padded) -> KMeansCodec:
        """Begin the books on audio [B, S]; a minute of speech is little, ten are plenty."""
        frames, lengths = self._frames(audio)
        on = torch.arange(frames.shape[1], device=lengths.device) < lengths[:, None]
        self.quantizer.start(frames[on])
        return self

    @torch.no_grad()
    def encode(self, audio: Padded) -> Padded:
        """audio [B, S] → codes [B, T, Q]."""
        frames, lengths = self._frames(audio)
        return Padded(self.quantizer.codes(frames), lengths)

    @torch.no_grad()
    def decode(self, codes: Padded) -> Padded:
        """codes [B, T, q] of the first q books → audio [B, S]."""
        self.check_codes(codes.values)
        return self._audible(self.quantizer.lookup(codes.values), codes.lengths)

    @torch.no_grad()
    def without_quantizer(self, audio: Padded) -> Padded:
        """What is left of audio by log-mel and Griffin-Lim alone: no codec over these frames sounds better than that."""
        return self._audible(*self._frames(audio))

    def _frames(self, audio: Padded) -> tuple[Tensor, Tensor]:
        lengths = -(-audio.lengths // self.hop)
        size = int(lengths.max()) * self.hop
        on = torch.arange(audio.values.shape[1], device=audio.values.device) < audio.lengths[:, None]
        values = F.pad(audio.values.masked_fill(~on, 0.0), (0, max(0, size - audio.values.shape[1])))[:, :size]
        return self.space.log_mel(values).unflatten(1, (-1, self.stack)).flatten(2), lengths

    def _audible(self, frames: Tensor, lengths: Tensor) -> Padded:
        mels = frames.unflatten(2, (self.stack, -1)).flatten(1, 2)
        return Padded(griffin_lim(self.space, self.space.magnitudes(mels), lengths * self.stack, self.iterations), lengths * self.hop)
