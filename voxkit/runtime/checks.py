"""What audio the runtime takes: refused with a sentence, before anything is computed."""

from __future__ import annotations

import numpy as np

LOUDEST = 64.0  # a float file may go a little beyond 1; 16-bit numbers, and what a broken file holds, go far beyond


def check_samples(audio: np.ndarray, name: str) -> np.ndarray:
    """A waveform [S] in [-1, 1] as float32.

    Raises:
        ValueError: another shape, whole numbers, NaN, infinity, or samples that are far from [-1, 1].
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or audio.dtype.kind != "f":
        raise ValueError(f"{name}: a waveform is [samples] of float, not {list(audio.shape)} of {audio.dtype}; of 16-bit samples give "
                         "samples / 32768")
    peak = max(float(audio.max()), -float(audio.min())) if len(audio) else 0.0  # no copies: a recording may last an hour
    if not np.isfinite(peak):
        raise ValueError(f"{name}: holds samples that are NaN or infinite")
    if peak > LOUDEST:
        raise ValueError(f"{name}: holds a sample of {peak:.3g}; audio lies in [-1, 1]; of 16-bit samples give samples / 32768")
    return audio.astype(np.float32, copy=False)
