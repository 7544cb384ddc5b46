"""Log-mel filterbank in numpy: the numbers of voxkit.audio.fbank, for a whole utterance or sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

FRAMES_PER_SECOND = 100.0
_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's least energy of a mel bin
_FRAME, _SHIFT, _FFT = 400, 160, 512  # samples at 16 kHz
_EDGE = _FRAME // 2 - _SHIFT // 2  # samples that the first frame reaches before the beginning
_PREEMPHASIS = 0.97
_KEPT = 2  # frames before the next one whose samples a stream keeps
_BLOCK = 1024  # frames that are computed at a time: memory stays small, whatever the length


@dataclass(frozen=True)
class Fbank:
    """Attributes: num_bins: mel bins; low_freq, high_freq: Hz, a high_freq of 0 or below counts from the Nyquist frequency."""

    num_bins: int = 80
    low_freq: float = 20.0
    high_freq: float = -400.0

    @staticmethod
    def num_frames(samples: int) -> int:
        """Frames of so many samples: one for every 160, rounded."""
        return (samples + _SHIFT // 2) // _SHIFT

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """audio [S] float32 in [-1, 1] at 16 kHz → features [T, F] float32; the signal is reflected at its ends."""
        count = self.num_frames(len(audio))
        if count == 0:
            return np.zeros((0, self.num_bins), np.float32)
        out = np.empty((count, self.num_bins), np.float32)
        for first in range(0, count, _BLOCK):
            frames = np.arange(first, min(first + _BLOCK, count))
            position = np.arange(first * _SHIFT - _EDGE, frames[-1] * _SHIFT - _EDGE + _FRAME) % (2 * len(audio))
            extended = audio[np.minimum(position, 2 * len(audio) - 1 - position)]
            out[frames] = self._energies(np.lib.stride_tricks.sliding_window_view(extended, _FRAME)[::_SHIFT])
        return out

    def _energies(self, frames: np.ndarray) -> np.ndarray:
        """Samples of each frame [T, 400] → [T, F]."""
        frames = frames - frames.mean(axis=1, keepdims=True, dtype=np.float32)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        spectrum = np.fft.rfft((frames - np.float32(_PREEMPHASIS) * before) * self._window, _FFT)[:, :-1]
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        return np.log(np.maximum(power @ self._mel, np.float32(_FLOOR)))

    @cached_property
    def _window(self) -> np.ndarray:
        """Povey's [400]: Hann's to the power of 0.85."""
        return ((0.5 - 0.5 * np.cos(2 * math.pi * np.arange(_FRAME) / (_FRAME - 1))) ** 0.85).astype(np.float32)

    @cached_property
    def _mel(self) -> np.ndarray:
        """Triangles [256, F], even on the mel scale 1127 log(1 + f / 700)."""
        top = self.high_freq if self.high_freq > 0 else 8000 + self.high_freq
        low, high = (1127 * math.log(1 + f / 700) for f in (self.low_freq, top))
        edges = low + (high - low) / (self.num_bins + 1) * np.arange(self.num_bins + 2)
        mel = 1127 * np.log(1 + np.arange(_FFT // 2) * (16000 / _FFT) / 700)[:, None]
        up = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
        down = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
        return np.maximum(0.0, np.minimum(up, down)).astype(np.float32)


@dataclass
class FbankStream:
    """An utterance that comes in pieces. Altogether its frames are those of the whole.

    Attributes:
        fbank: which.
        kept: samples that frames to come still need; done: frames of them that are out.
    """

    fbank: Fbank
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    done: int = 0

    def accept(self, audio: np.ndarray, final: bool = False) -> np.ndarray:
        """The next samples [S], any number of them → the frames that are whole with them [T, F].

        Args:
            final: the utterance ends here: its last frames, which reach beyond its end, come out too.
        """
        audio = np.concatenate([self.kept, audio.astype(np.float32, copy=False)])
        size = len(audio)
        whole = self.fbank.num_frames(size) if final else max(self.done, (size + _EDGE - _FRAME) // _SHIFT + 1)
        features = self.fbank(audio)[self.done:whole] if whole > self.done else np.zeros((0, self.fbank.num_bins), np.float32)
        skipped = max(0, whole - _KEPT)  # frames whose samples are let go
        self.kept, self.done = audio[skipped * _SHIFT:], whole - skipped
        return features
