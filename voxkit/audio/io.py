"""Audio as tensors: read (voxkit.audio.decode), resample (voxkit.audio.resample), write; errors name the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from voxkit.audio import decode
from voxkit.audio import resample as resampling
from voxkit.audio.decode import EXTENSIONS, RATE, AudioError
from voxkit.files import writing

__all__ = ["EXTENSIONS", "RATE", "AudioError", "read_audio", "resample", "write_audio"]


def read_audio(source: str | os.PathLike | bytes | BinaryIO, *, rate: int = RATE, start: float = 0.0,
               duration: float | None = None) -> tuple[Tensor, float]:
    """Decode, mix down to one channel, resample.

    Args:
        source: a path, the bytes of a file, or a seekable binary file.
        rate: samples per second wanted.
        start, duration: seconds; None reads to the end.

    Returns:
        audio [S] float32 in [-1, 1], and its seconds.

    Raises:
        AudioError: it is missing, not audio, cut off, empty, holds NaN or infinity, or its channels cancel each other.
    """
    audio, seconds = decode.read_mono(source, rate=rate, start=start, duration=duration)
    return torch.from_numpy(np.ascontiguousarray(audio)), seconds


def resample(audio: Tensor, rate: int, to: int) -> Tensor:
    """[..., S] at `rate` → [..., ceil(S · to / rate)] at `to`, on the CPU and without gradients; the same tensor where the rates agree."""
    return audio if rate == to and rate > 0 else torch.from_numpy(resampling.resample(audio.detach().cpu().numpy(), rate, to))


def write_audio(path: str | os.PathLike, audio: Tensor | np.ndarray, rate: int = RATE, *, subtype: str | None = None) -> Path:
    """Write under a temporary name, then rename: a reader finds the whole file or none.

    Args:
        path: its extension says the format; folders are made.
        audio: [S] or [C, S], clipped to [-1, 1].
        subtype: soundfile's (`PCM_16`, `FLOAT`, `OPUS` ...); None = the format's default, 16 bits for WAV and FLAC.

    Raises:
        AudioError: NaN or infinity, a wrong shape, or a format that soundfile lacks.
    """
    path = Path(path)
    samples = np.asarray(audio.detach().cpu().float() if isinstance(audio, Tensor) else audio, dtype=np.float32)
    if samples.ndim not in (1, 2):
        raise AudioError(f"{path}: audio is [samples] or [channels, samples], not {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: not written, for the audio holds NaN or infinity")
    kind = {"OPUS": "OGG", "OGA": "OGG", "AIF": "AIFF"}.get(path.suffix[1:].upper(), path.suffix[1:].upper())
    subtype = subtype or ("OPUS" if path.suffix == ".opus" else None)
    try:
        with writing(path, "wb") as file:
            soundfile.write(file, np.clip(samples, -1, 1).T, rate, format=kind, subtype=subtype)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); formats: {', '.join(sorted(e[1:] for e in EXTENSIONS))}") from error
    return path

