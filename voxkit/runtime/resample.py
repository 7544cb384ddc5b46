"""Another sampling rate for audio that comes in pieces: altogether the samples of voxkit.audio.resample for the whole."""

from __future__ import annotations

import math

import numpy as np

from voxkit.audio.resample import ROLLOFF, ZEROS, resample
from voxkit.rate import RATE


class ResampleStream:
    """One channel from `rate` to 16 kHz.

    Args:
        rate: samples per second, a whole number.
    """

    def __init__(self, rate: int) -> None:
        divisor = math.gcd(rate, RATE)
        self.rate, self.old, self.new = rate, rate // divisor, RATE // divisor
        self.half = math.ceil(ZEROS * self.old / (min(self.old, self.new) * ROLLOFF)) + 1  # samples that one of the output needs on a side
        self.kept = np.zeros(0, np.float32)
        self.done = 0  # samples of the output given out, counted from where `kept` begins

    def accept(self, audio: np.ndarray, final: bool = False) -> np.ndarray:
        """The next samples [S] float32 → those at 16 kHz that are whole with them.

        Args:
            final: the audio ends here.
        """
        if self.rate == RATE:
            return audio
        self.kept = np.concatenate([self.kept, audio])
        sure = len(self.kept) if final else len(self.kept) - self.half
        whole = -(-sure * self.new // self.old) if sure > 0 else 0
        if whole <= self.done:
            return np.zeros(0, np.float32)
        out = resample(self.kept, self.old, self.new)[self.done:whole]
        self.done = whole
        periods = max(0, min(self.done // self.new, (sure - self.half) // self.old) - 1)
        if periods:
            self.kept, self.done = self.kept[periods * self.old:], self.done - periods * self.new
        return out
