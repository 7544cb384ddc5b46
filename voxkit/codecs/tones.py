"""A codec of tones whose codes are known exactly: two books, pitch and timbre, 12.5 frames/s. What is generated over it can be counted.

A frame of 1,280 samples holds whole periods of a note, so that notes join without steps and are told apart without error: pitch 0 is
silence, pitch p has its fundamental at (16 + p) · 12.5 Hz, and timbre t (0 with silence) says how loud its harmonics 2, 3 and 4 are.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F

from voxkit.batch import Padded
from voxkit.codecs.contract import Codec
from voxkit.rate import RATE

PITCHES, TIMBRES = 24, 8
_LOUD, _LEAST = 0.2, 0.02  # of a fundamental, and what is still silence


class ToneCodec(Codec):
    """Codes [B, T, 2]: pitch, timbre. Other audio gets the note that is nearest to the strongest partial in range."""

    sample_rate, hop = RATE, 1280
    frame_rate = RATE / hop
    codebooks, size = 2, PITCHES + 1

    def __init__(self) -> None:
        super().__init__()
        patterns = torch.tensor(list(itertools.product((0.1, 0.6), repeat=3)))  # [TIMBRES, 3], harmonics 2-4 by the fundamental
        time = torch.arange(self.hop) / self.hop
        waves = torch.zeros(PITCHES + 1, TIMBRES + 1, self.hop)
        for pitch in range(1, PITCHES + 1):
            partials = torch.stack([torch.sin(2 * math.pi * k * (16 + pitch) * time) for k in range(1, 5)])
            waves[pitch, 1:] = _LOUD * torch.cat((torch.ones(TIMBRES, 1), patterns), 1) @ partials
        self.register_buffer("patterns", patterns, persistent=False)
        self.register_buffer("waves", waves, persistent=False)

    def encode(self, audio: Padded) -> Padded:
        """audio [B, S] → codes [B, T, 2]."""
        lengths = -(-audio.lengths // self.hop)
        size = int(lengths.max()) * self.hop
        on = torch.arange(audio.values.shape[1], device=audio.values.device) < audio.lengths[:, None]
        values = F.pad(audio.values.masked_fill(~on, 0.0), (0, max(0, size - audio.values.shape[1])))[:, :size]
        loud = torch.fft.rfft(values.unflatten(1, (-1, self.hop))).abs() / (self.hop / 2)
        range_ = loud[..., 17:17 + PITCHES]
        strongest, pitch = range_.max(-1)
        bins = (17 + pitch)[..., None] * torch.arange(2, 5, device=pitch.device)
        shape = loud.gather(-1, bins) / strongest[..., None].clamp(min=1e-9)
        timbre = (shape[..., None, :] - self.patterns).square().sum(-1).argmin(-1)
        heard = strongest > _LEAST
        return Padded(torch.stack((torch.where(heard, pitch + 1, 0), torch.where(heard, timbre + 1, 0)), -1), lengths)

    def decode(self, codes: Padded) -> Padded:
        """codes [B, T, 2] → audio [B, S]; a timbre that there is not sounds like the last."""
        self.check_codes(codes.values)
        if codes.values.shape[2] != 2:
            raise ValueError("tones need both books, pitch and timbre")
        waves = self.waves[codes.values[..., 0], codes.values[..., 1].clamp(max=TIMBRES)].flatten(1)
        on = torch.arange(waves.shape[1], device=waves.device) < (codes.lengths * self.hop)[:, None]
        return Padded(waves * on, codes.lengths * self.hop)
