"""The microphone of this machine, through sounddevice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from voxkit.optional import require

_PIECE = 0.04  # seconds of a piece
_WAITING = 500  # pieces that may wait: 20 s


async def microphone(rate: int = 16_000, device: str | int | None = None) -> AsyncIterator[np.ndarray]:
    """Pieces [S] int16, as they are spoken, until the caller leaves.

    Raises:
        MissingPackage: sounddevice is not installed; OSError: there is no such microphone, or no PortAudio.
    """
    try:
        sounddevice = require("sounddevice", "client", why="the microphone")
    except OSError as error:
        raise OSError(f"no microphone: {error}; on Debian: apt-get install libportaudio2") from error
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[np.ndarray] = asyncio.Queue(_WAITING)

    def put(piece: np.ndarray) -> None:
        if waiting.full():
            waiting.get_nowait()  # nobody listens: the oldest goes
        waiting.put_nowait(piece)

    def heard(samples: Any, frames: int, when: Any, status: Any) -> None:
        loop.call_soon_threadsafe(put, np.frombuffer(samples, np.int16).copy())

    try:
        stream = sounddevice.RawInputStream(rate, round(rate * _PIECE), device, 1, "int16", callback=heard)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise OSError(f"no microphone {'' if device is None else device}: {error}") from error
    with stream:
        while True:
            yield await waiting.get()
