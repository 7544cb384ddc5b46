"""Audio for the runtime: soundfile decodes, numpy resamples as torchaudio does. No torch."""

from __future__ import annotations

import math
import os

import numpy as np
import soundfile

from voxkit.rate import RATE

_ROLLOFF, _ZEROS = 0.99, 6  # torchaudio's cut-off, as a share of the lower Nyquist frequency, and zero crossings to either side


def read_audio(path: str | os.PathLike) -> np.ndarray:
    """A file → one channel at 16 kHz: [S] float32 in [-1, 1].

    Raises:
        ValueError: it is missing, not audio, empty, or holds NaN or infinity; the message names it.
    """
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such audio file")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as audio ({error}); convert it: ffmpeg -i IN -ar {RATE} OUT.wav") from error
    if not len(samples):
        raise ValueError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: holds samples that are NaN or infinite")
    return resample(samples.mean(axis=1), rate, RATE)


def resample(audio: np.ndarray, rate: int, to: int) -> np.ndarray:
    """[S] at `rate` → [ceil(S · to / rate)] at `to`: band-limited interpolation under a Hann window (J. O. Smith, Digital Audio
    Resampling), the numbers of torchaudio.functional.resample."""
    if rate == to:
        return np.asarray(audio, dtype=np.float32)
    divisor = math.gcd(rate, to)
    old, new = rate // divisor, to // divisor
    cutoff = min(old, new) * _ROLLOFF
    width = math.ceil(_ZEROS * old / cutoff)
    index = np.arange(-width, width + old, dtype=np.float64)[None] / old
    time = np.clip((-np.arange(new, dtype=np.float64)[:, None] / new + index) * cutoff, -_ZEROS, _ZEROS)
    window = np.cos(time * math.pi / _ZEROS / 2) ** 2
    kernels = (np.sinc(time) * window * cutoff / old).astype(np.float32)  # [new, 2 width + old], one per phase
    padded = np.pad(np.asarray(audio, dtype=np.float32), (width, width + old))
    frames = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::old]
    return np.ascontiguousarray((frames @ kernels.T).reshape(-1)[:math.ceil(new * len(audio) / old)])
