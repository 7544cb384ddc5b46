"""Decode audio without torch: all of a file's samples, or an error that names the file and what is wrong with it.

soundfile decodes (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF ...); what it would pass over in silence is found here: files that were cut
off (`containers`), MP3s of unknown length (`mpeg`), channels that cancel each other.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np
import soundfile

from voxkit.audio.containers import TOLERANCE, foreign_format, incomplete
from voxkit.audio.mpeg import Stream, walk, with_length
from voxkit.audio.resample import resample
from voxkit.rate import RATE

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz; a header that says something else is wrong
EXTENSIONS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf", ".sph"})

Source = Union[str, os.PathLike, bytes, BinaryIO]


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file and the reason.

    Attributes:
        reason: in two or three words, the same for all of a kind: "missing audio", "truncated audio", ...
    """

    def __init__(self, message: str, reason: str = "corrupt audio") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """Of a file: samples per second, channels, and samples of each."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.rate


def audio_info(source: Source, *, whole: bool = True) -> AudioInfo:
    """What a file holds, counted where its header does not tell; `whole`: of a file that was not cut off.

    Raises:
        AudioError: it is missing, no audio that is decoded here, empty, or cut off.
    """
    with _opened(source, whole) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def decode(source: Source, *, start: float = 0.0, duration: float | None = None, whole: bool = True) -> tuple[np.ndarray, int]:
    """Samples [C, S] float32 in [-1, 1] and their rate.

    Args:
        source: a path, the bytes of a file, or a seekable binary file.
        start, duration: seconds; None reads to the end.
        whole: refuse a file that was cut off, even where the wanted part is there.

    Raises:
        AudioError: it is missing, not audio, cut off, empty, or holds NaN or infinity.
    """
    name = _name(source)
    with _opened(source, whole) as file:
        first = min(_samples(start, file.samplerate), file.frames)
        wanted = file.frames - first if duration is None else min(_samples(duration, file.samplerate), file.frames - first)
        try:
            if first:
                file.seek(first)
            samples = file.read(wanted, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise AudioError(f"{name}: cannot be decoded to its end ({_reason(error)}): cut off or damaged") from error
        rate = file.samplerate
    if len(samples) < wanted - TOLERANCE * rate:
        raise AudioError(f"{name}: truncated: {(first + len(samples)) / rate:.2f} s can be decoded of {(first + wanted) / rate:.2f} s",
                         "truncated audio")
    if not len(samples):
        raise AudioError(f"{name}: holds no samples" + (f" after {start:g} s" if start else ""), "empty audio")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds samples that are NaN or infinite")
    return samples.T, rate


def read_mono(source: Source, *, rate: int = RATE, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, float]:
    """Decode, mix down to one channel, resample → audio [S] float32 at `rate`, and its seconds.

    Raises:
        AudioError: as `decode`; or channels that cancel each other.
    """
    samples, own_rate = decode(source, start=start, duration=duration)
    return resample(mix_down(samples, _name(source)), own_rate, rate), samples.shape[1] / own_rate


def mix_down(samples: np.ndarray, name: str) -> np.ndarray:
    """[C, S] → [S], the mean of the channels.

    Raises:
        AudioError: the channels are out of phase: their mean would be next to silence.
    """
    if len(samples) == 1:
        return samples[0]
    mixed = samples.mean(axis=0)
    power, mixed_power = float(np.mean(np.square(samples, dtype=np.float64))), float(np.mean(np.square(mixed, dtype=np.float64)))
    if power > 1e-8 and mixed_power < 0.01 * power:
        raise AudioError(f"{name}: its {len(samples)} channels are out of phase and cancel each other; take one of them, e.g. "
                         'ffmpeg -i IN -af "pan=mono|c0=c0" OUT.wav', "channels out of phase")
    return mixed


def check_rate(rate: float, name: str) -> int:
    """A sampling rate that somebody gave.

    Raises:
        AudioError: it is no whole number from LOWEST_RATE to HIGHEST_RATE.
    """
    if not (LOWEST_RATE <= rate <= HIGHEST_RATE) or rate != int(rate):
        raise AudioError(f"{name}: {rate} samples/s; rates are whole numbers from {LOWEST_RATE} to {HIGHEST_RATE}", "wrong rate")
    return int(rate)


@contextlib.contextmanager
def _opened(source: Source, whole: bool) -> Iterator[soundfile.SoundFile]:
    """A decoder whose `frames` is right; `whole`: of a file that was not cut off."""
    name = _name(source)
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            if not Path(source).is_file():
                raise AudioError(f"{name}: no such audio file", "missing audio")
            try:
                stream: BinaryIO = stack.enter_context(open(source, "rb"))
            except OSError as error:
                raise AudioError(f"{name}: cannot be opened ({error.strerror})", "missing audio") from error
        else:
            stream = io.BytesIO(source) if isinstance(source, bytes) else source
        begin = stream.tell()
        head = stream.read(64)
        stream.seek(begin)
        if not head:
            raise AudioError(f"{name}: holds no samples: it has no bytes", "empty audio")
        if foreign := foreign_format(head.lstrip() if head[:1].isspace() else head):
            raise AudioError(f"{name}: is {foreign}, which is not decoded here; convert it: ffmpeg -i IN -ar {RATE} OUT.wav",
                             "unsupported audio")
        if whole and (problem := incomplete(stream)):
            raise AudioError(f"{name}: {problem}", "truncated audio")
        decoder = stack.enter_context(_sound_file(stream, name))
        if decoder.format == "MP3" and (wrapped := _whole_mp3(decoder, source, stream, begin, name, whole)) is not None:
            decoder = stack.enter_context(wrapped)
        check_rate(decoder.samplerate, name)
        yield decoder


def _sound_file(stream: BinaryIO, name: str) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(stream)
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError) as error:
        raise AudioError(f"{name}: cannot be read as audio ({_reason(error)}); convert it: ffmpeg -i IN -ar {RATE} OUT.wav") from error


def _whole_mp3(decoder: soundfile.SoundFile, source: Source, stream: BinaryIO, begin: int, name: str,
               whole: bool) -> soundfile.SoundFile | None:
    """A decoder that goes to the last frame, where this one would not; else None."""
    place = stream.tell()
    if isinstance(source, (str, os.PathLike)):
        stat = os.stat(source)
        found = _walked(str(source), stat.st_size, stat.st_mtime_ns)
    else:
        stream.seek(begin)
        found = walk(stream.read())
    if found is not None:
        per_frame = found.samples // found.frames
        if whole and found.promised is not None and found.promised > found.frames + 1:
            raise AudioError(f"{name}: truncated: its header promises {found.promised} frames, {found.frames} are there", "truncated audio")
        # An encoder's delay and padding, up to four frames, are cut off where a header tells them.
        if not found.samples - 4 * per_frame <= decoder.frames <= found.samples + per_frame:
            stream.seek(begin)
            return _sound_file(io.BytesIO(with_length(stream.read(), found)), name)
    stream.seek(place)
    return None


@lru_cache(maxsize=4096)
def _walked(path: str, size: int, changed: int) -> Stream | None:
    return walk(Path(path).read_bytes())


def _samples(seconds: float, rate: int) -> int:
    """Half a sample is one, as lhotse counts."""
    return math.floor(round(seconds * rate, 8) + 0.5)


def _reason(error: Exception) -> str:
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def _name(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(getattr(source, "name", "") or "a file object")
