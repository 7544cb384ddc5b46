"""Samples as they travel."""

from __future__ import annotations

from typing import Union

import numpy as np

from voxkit.client.options import ListenOptions

Samples = Union[bytes, bytearray, memoryview, np.ndarray]


def as_bytes(audio: Samples, options: ListenOptions) -> bytes:
    """Bytes in the encoding, or an array [S] or [S, C], int16 or float in [-1, 1], → bytes in the encoding.

    Raises:
        ValueError: another type or shape, or half a sample.
    """
    if isinstance(audio, np.ndarray):
        channels = audio.shape[1] if audio.ndim == 2 else 1
        if audio.ndim not in (1, 2) or channels != options.channels:
            raise ValueError(f"samples of shape {list(audio.shape)}; [S] for one channel, [S, C] for {options.channels}")
        audio = _encoded(audio, options.encoding)
    data = bytes(audio)
    if len(data) % options.frame_bytes:
        raise ValueError(f"{len(data)} bytes are no whole number of samples of {options.frame_bytes} bytes "
                         f"({options.encoding}, channels: {options.channels})")
    return data


def _encoded(audio: np.ndarray, encoding: str) -> bytes:
    if audio.dtype == np.int16:
        return audio.astype("<i2").tobytes() if encoding == "linear16" else (audio / np.float32(32768)).astype("<f4").tobytes()
    if audio.dtype.kind != "f":
        raise ValueError(f"samples of type {audio.dtype}; int16 or float in [-1, 1]")
    if encoding == "linear32":
        return audio.astype("<f4").tobytes()
    return np.clip(np.rint(np.nan_to_num(audio) * 32768), -32768, 32767).astype("<i2").tobytes()
