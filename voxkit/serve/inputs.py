"""From the body of a request to what a model takes; what cannot be taken is refused with the reason and the place."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np

from voxkit.audio.decode import AudioError, read_mono
from voxkit.audio.resample import resample
from voxkit.rate import RATE
from voxkit.serve.errors import RequestError
from voxkit.serve.schema import HIGHEST_RATE, LOWEST_RATE, Request

FRAMES_PER_SECOND = 100  # of features
_VALUES_PER_SECOND = 8 * 48_000  # of all channels: eight at 48 kHz, two at 192 kHz
_LOUD = 8.0  # lossy formats and 32-bit files may pass 1 a little; what passes this was not scaled


@dataclass
class Limits:
    """Attributes:
    max_seconds, min_seconds: of one utterance.
    max_bytes: of a request's body; max_values: numbers in one.
    max_held: bytes of all bodies that are on their way or not yet read; more are refused with 503.
    timeout: seconds from a request's last byte to its answer; then 504.
    upload_timeout: seconds that a body may take to arrive; head_timeout: likewise a request's head.
    drain: seconds that requests may go on once the service was told to stop.
    """

    max_seconds: float = 60.0
    min_seconds: float = 0.1
    max_bytes: int = 32 * 2**20
    max_values: int = 3_000_000
    max_held: int = 256 * 2**20
    timeout: float = 30.0
    upload_timeout: float = 30.0
    head_timeout: float = 10.0
    drain: float = 20.0

    def problems(self) -> list[str]:
        """What cannot be."""
        found = [] if 0 < self.min_seconds < self.max_seconds < math.inf else \
            [f"min_seconds: {self.min_seconds} is not between 0 and max_seconds, or max_seconds ({self.max_seconds}) has no end"]
        found += [f"{name}: {getattr(self, name)} is below 1" for name in ("max_bytes", "max_values", "max_held")
                  if getattr(self, name) < 1]
        return found + [f"{name}: {getattr(self, name)} is not above 0" for name in ("timeout", "upload_timeout", "head_timeout", "drain")
                        if not getattr(self, name) > 0]


@dataclass
class Input:
    """One utterance: audio [S] at 16 kHz or features [T, F], float32; seconds."""

    kind: str
    values: np.ndarray
    seconds: float


def input_of(request: Request, limits: Limits) -> Input:
    """What a model takes, of a parsed body.

    Raises:
        RequestError: 422 too short; 413 too long.
    """
    rate, unit = (request.rate, "samples") if request.kind == "audio" else (FRAMES_PER_SECOND, "frames")
    seconds = len(request.values) / rate
    if seconds > limits.max_seconds:
        raise RequestError(413, f"{request.kind}: {len(request.values)} {unit} are {seconds:.2f} s; at most {limits.max_seconds:g} s are "
                                "taken, send shorter pieces")
    _long_enough(seconds, request.kind, limits)
    values = np.asarray(request.values, dtype=np.float32)
    return Input(request.kind, resample(values, request.rate, RATE) if request.kind == "audio" else values, seconds)


def file_from(body: bytes, limits: Limits) -> Input:
    """The bytes of an audio file → Input at 16 kHz.

    Raises:
        RequestError: 422 not audio, empty, cut off, NaN, not scaled, too short, an impossible rate; 413 too long.
    """
    if not body:
        raise RequestError(422, "the body is empty; send an audio file (wav, flac, ogg, mp3)")
    _check_header(body)
    try:
        wave, seconds = read_mono(body, duration=limits.max_seconds + 1)
    except AudioError as error:
        raise RequestError(422, str(error)) from error
    within(seconds, "the audio", limits)
    if not np.abs(wave).max(initial=0.0) <= _LOUD:
        raise RequestError(422, f"the audio holds samples of {np.abs(wave).max():g}; those of a float file are between -1 and 1, divide "
                                "16-bit ones by 32768")
    return Input("audio", wave, seconds)


def _check_header(body: bytes) -> None:
    """Refuse, before anything is decoded, what its header says cannot be.

    Raises:
        RequestError: 422 an impossible rate, or too many channels for it.
    """
    import soundfile

    try:
        info = soundfile.info(io.BytesIO(body))
    except (soundfile.SoundFileError, RuntimeError, TypeError):
        return  # reading says what is wrong
    if not LOWEST_RATE <= info.samplerate <= HIGHEST_RATE:
        raise RequestError(422, f"the header says {info.samplerate} samples per second; {LOWEST_RATE} to {HIGHEST_RATE} are taken")
    if info.channels * info.samplerate > _VALUES_PER_SECOND:
        raise RequestError(422, f"{info.channels} channels of {info.samplerate} samples per second; at most {_VALUES_PER_SECOND} in all "
                                "are taken, send one channel")


def within(seconds: float, what: str, limits: Limits) -> None:
    """Refuse audio that is too long, or too short.

    Raises:
        RequestError: 413, 422.
    """
    if seconds > limits.max_seconds:
        raise RequestError(413, f"{what} is longer than {limits.max_seconds:g} s, the most that is taken; send shorter pieces")
    _long_enough(seconds, what, limits)


def _long_enough(seconds: float, what: str, limits: Limits) -> None:
    if seconds < limits.min_seconds:
        raise RequestError(422, f"{what}: {seconds:.3f} s are too short; at least {limits.min_seconds:g} s are needed")
