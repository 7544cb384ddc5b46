"""Change of sampling rate without torch, the one that data, runtime and service share: any rate to any other, in time and memory that
follow from the audio alone.

Band-limited interpolation under a Hann window (J. O. Smith, Digital Audio Resampling), with the numbers of
torchaudio.functional.resample. That one builds a kernel for each of the `to / gcd` phases over `rate / gcd` samples: 44,100 → 16,000 takes
160 of 441, but 44,101 → 16,000 would take 16,000 of 44,101, six gigabytes. Here a phase has as many taps as its window holds, and where
phases are many, those of a stretch of output at a time.
"""

from __future__ import annotations

import math

import numpy as np

ROLLOFF, ZEROS = 0.99, 6  # cut-off as a share of the lower Nyquist frequency, and zero crossings to either side
_TABLE = 2048  # phases up to which all kernels are computed once
_CHUNK = 1 << 21  # taps at a time


def resample(audio: np.ndarray, rate: int, to: int) -> np.ndarray:
    """[..., S] float32 at `rate` → [..., ceil(S · to / rate)] at `to` samples/s; the same array where the rates agree.

    Raises:
        ValueError: a rate that is not above 0.
    """
    if rate <= 0 or to <= 0:
        raise ValueError(f"cannot resample from {rate} to {to} samples/s: rates are above 0")
    audio = np.asarray(audio, dtype=np.float32)
    if rate == to:
        return audio
    divisor = math.gcd(int(rate), int(to))
    old, new = int(rate) // divisor, int(to) // divisor
    length = -(-audio.shape[-1] * new // old)
    flat = audio.reshape(-1, audio.shape[-1])
    out = np.empty((len(flat), length), dtype=np.float32)
    cutoff = min(old, new) * ROLLOFF  # in units of 1 / (old · new) of the common clock
    half = math.ceil(ZEROS * old / cutoff)
    taps = 2 * half + 1
    padded = np.pad(flat, ((0, 0), (half, half + 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=1)  # [.., S + 1, taps]
    offsets = np.arange(-half, half + 1, dtype=np.float64)
    if new <= _TABLE:
        for phase in range(min(new, length)):  # output n = phase + k · new lies at phase · old / new + k · old in the input
            place = phase * old // new
            kernel = _kernel(offsets - (phase * old % new) / new, old, cutoff)
            rows = windows[:, place::old]
            count = -(-(length - phase) // new)
            out[:, phase::new] = rows[:, :count] @ kernel
        return out.reshape(*audio.shape[:-1], length)
    step = max(1, _CHUNK // taps)
    for start in range(0, length, step):
        n = np.arange(start, min(start + step, length), dtype=np.int64)
        kernels = _kernel(offsets[None] - ((n * old % new) / new)[:, None], old, cutoff)
        out[:, start:start + len(n)] = np.einsum("cnt,nt->cn", windows[:, n * old // new], kernels)
    return out.reshape(*audio.shape[:-1], length)


def _kernel(distance: np.ndarray, old: int, cutoff: float) -> np.ndarray:
    """Weights of input samples at such distances (in samples) from the output's place."""
    time = np.clip(distance * (cutoff / old), -ZEROS, ZEROS)
    return (np.sinc(time) * np.cos(time * (math.pi / ZEROS / 2)) ** 2 * (cutoff / old)).astype(np.float32)
