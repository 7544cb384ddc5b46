"""From the body of a request to what a model takes; what cannot be taken is refused with the reason and the place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxkit.audio.fbank import Fbank
from voxkit.audio.io import RATE, AudioError, read_audio
from voxkit.serve.errors import RequestError


@dataclass
class Limits:
    """Attributes: max_seconds: of one utterance; min_seconds: likewise; max_bytes: of a request's body."""

    max_seconds: float = 60.0
    min_seconds: float = 0.1
    max_bytes: int = 32 * 2**20

    def problems(self) -> list[str]:
        found = [] if 0 < self.min_seconds < self.max_seconds else [f"min_seconds: {self.min_seconds} is not between 0 and max_seconds"]
        return found + ([f"max_bytes: {self.max_bytes} is below 1"] if self.max_bytes < 1 else [])


@dataclass
class Input:
    """One utterance: audio [S] at 16 kHz or features [T, F]."""

    kind: str
    values: Tensor


def parse_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        RequestError: 400.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RequestError(400, f"the body is a JSON {type(value).__name__}; send an object, for example {{\"features\": [[...], ...]}}")
    return value


def features_from(value: Any, bins: int, limits: Limits) -> Input:
    """Nested arrays [T][F], 100 frames/s → Input.

    Raises:
        RequestError: 422 no list, empty, ragged, not numbers, NaN, too short, another width; 413 too long.
    """
    if not isinstance(value, list):
        raise RequestError(422, f"features: {_json_name(value)} is no list of numbers; send frames, each a list of numbers")
    if not value:
        raise RequestError(422, "features: empty; send frames, each a list of numbers, 100 frames per second")
    frames = len(value)
    if frames > limits.max_seconds * Fbank.frames_per_second:
        raise RequestError(413, f"features: {frames} frames are {frames / Fbank.frames_per_second:.2f} s; at most {limits.max_seconds:g} s "
                                "are taken, send shorter pieces")
    for i, row in enumerate(value):
        if not isinstance(row, list):
            raise RequestError(422, f"features[{i}]: {type(row).__name__}, and must be a list of {bins} numbers")
        if len(row) != bins:
            ragged = isinstance(value[0], list) and len(value[0]) != len(row)
            what = f"{len(row)} values where features[0] has {len(value[0])}: ragged" if ragged else f"{len(row)} values"
            raise RequestError(422, f"features[{i}]: {what}; this model takes {bins} per frame")
    for i, row in enumerate(value):
        for j, x in enumerate(row):
            if type(x) not in (int, float):
                raise RequestError(422, f"features[{i}][{j}]: {str(x)[:40]!r} is no number")
    try:
        array = np.asarray(value, dtype=np.float64)
    except OverflowError as error:
        raise RequestError(422, "features: an integer too large to be a log-mel energy") from error
    bad = ~(np.abs(array) < 1e6)  # NaN compares as False
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise RequestError(422, f"features[{i}][{j}]: {array[i, j]} is not finite, or too large to be a log-mel energy")
    _long_enough(frames / Fbank.frames_per_second, "features", limits)
    return Input("features", torch.from_numpy(array.astype(np.float32)))


def samples_from(value: Any, rate: Any, limits: Limits) -> Input:
    """An array of samples in [-1, 1] and their rate → Input at 16 kHz.

    Raises:
        RequestError: 422 no list, empty, nested, not numbers, NaN, too short, an impossible rate; 413 too long.
    """
    from voxkit.audio.io import resample

    if type(rate) is not int or not 4000 <= rate <= 192000:
        raise RequestError(422, f"rate: {str(rate)[:40]!r} is no number of samples per second between 4000 and 192000")
    if not isinstance(value, list):
        raise RequestError(422, f"audio: {_json_name(value)} is no list of numbers; send samples between -1 and 1")
    if not value:
        raise RequestError(422, "audio: empty; send a list of samples between -1 and 1")
    if len(value) > limits.max_seconds * rate:
        raise RequestError(413, f"audio: {len(value)} samples are {len(value) / rate:.2f} s; at most {limits.max_seconds:g} s are taken, "
                                "send shorter pieces")
    for i, x in enumerate(value):
        if type(x) not in (int, float):
            raise RequestError(422, f"audio[{i}]: {type(x).__name__}, and must be a number; one channel, not nested")
    try:
        wave = np.asarray(value, dtype=np.float64)
    except OverflowError as error:
        raise RequestError(422, "audio: a number too large for a sample") from error
    bad = ~(np.abs(wave) <= 1.0)
    if bad.any():
        i = int(np.argmax(bad))
        raise RequestError(422, f"audio[{i}]: {wave[i]} is not between -1 and 1; divide 16-bit samples by 32768")
    _long_enough(len(wave) / rate, "audio", limits)
    return Input("audio", resample(torch.from_numpy(wave.astype(np.float32)), rate, RATE))


def file_from(body: bytes, limits: Limits) -> Input:
    """The bytes of an audio file → Input at 16 kHz.

    Raises:
        RequestError: 422 not audio, empty, NaN, too short; 413 too long.
    """
    if not body:
        raise RequestError(422, "the body is empty; send an audio file (wav, flac, ogg, mp3)")
    try:
        wave, seconds = read_audio(body, duration=limits.max_seconds + 1)
    except AudioError as error:
        raise RequestError(422, str(error)) from error
    if seconds > limits.max_seconds:
        raise RequestError(413, f"the audio is longer than {limits.max_seconds:g} s, the most that is taken; send shorter pieces")
    _long_enough(seconds, "the audio", limits)
    return Input("audio", wave)


def _json_name(value: Any) -> str:
    """A JSON value as it was sent, cut short: `null`, `5`, `"abc"`."""
    return json.dumps(value)[:40]


def _long_enough(seconds: float, what: str, limits: Limits) -> None:
    if seconds < limits.min_seconds:
        raise RequestError(422, f"{what}: {seconds:.3f} s are too short; at least {limits.min_seconds:g} s are needed")
