"""Read and write audio: soundfile decodes (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF ...), torchaudio resamples, errors name the file."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

from voxkit.rate import RATE

EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf", ".sph"})


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file and the reason."""


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
        AudioError: it is missing, not audio, empty, or holds NaN or infinity.
    """
    name = _name(source)
    if isinstance(source, (str, os.PathLike)) and not Path(source).is_file():
        raise AudioError(f"{name}: no such audio file")
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            if start:
                file.seek(min(round(start * file.samplerate), file.frames))
            samples = file.read(-1 if duration is None else round(duration * file.samplerate), dtype="float32", always_2d=True)
            own_rate = file.samplerate
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError) as error:
        reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
        raise AudioError(f"{name}: cannot be read as audio ({reason}); convert it: ffmpeg -i IN -ar {rate} OUT.wav") from error
    if not len(samples):
        raise AudioError(f"{name}: holds no samples" + (f" after {start:g} s" if start else ""))
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds samples that are NaN or infinite")
    audio = torch.from_numpy(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1))
    return resample(audio, own_rate, rate), len(samples) / own_rate


def resample(audio: Tensor, rate: int, to: int) -> Tensor:
    """[..., S] at `rate` → [..., ceil(S · to / rate)] at `to` (windowed sinc); the same tensor where the rates agree."""
    if rate <= 0 or to <= 0:
        raise ValueError(f"cannot resample from {rate} to {to} samples/s: rates are above 0")
    return audio if rate == to else torchaudio.functional.resample(audio, rate, to)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            kind = {"OPUS": "OGG", "OGA": "OGG", "AIF": "AIFF"}.get(path.suffix[1:].upper(), path.suffix[1:].upper())
            subtype = subtype or ("OPUS" if path.suffix == ".opus" else None)
            soundfile.write(file, np.clip(samples, -1, 1).T, rate, format=kind, subtype=subtype)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        Path(temporary).unlink(missing_ok=True)
        raise AudioError(f"{path}: cannot be written ({error}); formats: {', '.join(sorted(e[1:] for e in EXTENSIONS))}") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _name(source: str | os.PathLike | bytes | BinaryIO) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(getattr(source, "name", "") or "a file object")
