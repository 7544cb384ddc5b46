"""Files to a server: as a stream, or as one request."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from voxkit.client.asynchronous import AsyncStream
from voxkit.client.errors import ClientError
from voxkit.client.messages import Event, Result
from voxkit.client.options import ListenOptions
from voxkit.client.synchronous import Stream
from voxkit.optional import require
from voxkit.rate import LIVE_RATES

PIECE = 0.1  # seconds of a message


def read(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """A file → samples [S] int16 of one channel, and a rate that servers take.

    Raises:
        AudioError: it is missing, no audio, or cut off.
    """
    from voxkit.audio.decode import decode, mix_down
    from voxkit.audio.resample import resample
    from voxkit.rate import RATE

    samples, rate = decode(path)
    mono = mix_down(samples, str(path))
    if rate not in LIVE_RATES:
        mono, rate = resample(mono, rate, RATE), RATE
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16), rate


def pieces(samples: np.ndarray, rate: int, seconds: float = PIECE) -> Iterator[np.ndarray]:
    """Samples [S] → pieces of so many seconds, the last one shorter."""
    size = max(1, round(seconds * rate))
    for first in range(0, len(samples), size):
        yield samples[first:first + size]


async def listen(path: str | os.PathLike, options: ListenOptions | None = None, *, speed: float | None = None) -> AsyncIterator[Event]:
    """Stream a file → the events. `speed`: 1 sends it as it would be spoken, 2 twice as fast; None: as fast as the server takes it.

    Raises:
        AudioError: of the file; ClientError: of the server.
    """
    samples, rate = read(path)
    options = replace(options or ListenOptions(), sample_rate=rate, channels=1, encoding="linear16")
    async with AsyncStream(options) as stream:
        sender = asyncio.create_task(_send(stream, samples, rate, speed))
        try:
            async for event in stream:
                yield event
            await sender
        finally:
            sender.cancel()


async def _send(stream: AsyncStream, samples: np.ndarray, rate: int, speed: float | None) -> None:
    begun = time.monotonic()
    try:
        for i, piece in enumerate(pieces(samples, rate), 1):
            if speed is not None:
                await asyncio.sleep(begun + i * PIECE / speed - time.monotonic())
            await stream.send(piece)
        await stream.finish()
    except ClientError:
        pass  # the iteration over the events raises it


def transcribe(path: str | os.PathLike, options: ListenOptions | None = None, *, speed: float | None = None,
               on_event: Callable[[Event], Any] | None = None) -> list[Result]:
    """Stream a file and wait → the final results that hold text; `speed` as of `listen`.

    Raises:
        AudioError: of the file; ClientError: of the server.
    """
    samples, rate = read(path)
    finals = []

    def keep(event: Event) -> None:
        if on_event is not None:
            on_event(event)
        if isinstance(event, Result) and event.final and event.text:
            finals.append(event)

    with Stream(replace(options or ListenOptions(), sample_rate=rate, channels=1, encoding="linear16")) as stream:
        begun = time.monotonic()
        for i, piece in enumerate(pieces(samples, rate), 1):
            if speed is not None:
                time.sleep(max(0.0, begun + i * PIECE / speed - time.monotonic()))
            stream.send(piece)
            for event in stream.pending():
                keep(event)
        for event in stream.finish():
            keep(event)
    return finals


def recognize(path: str | os.PathLike, options: ListenOptions | None = None, *, timeout: float = 300.0) -> dict[str, Any]:
    """Send a file as one request (`POST /v1/audio/transcriptions`) → the answer: `text`, `words` with times, `duration`.

    Raises:
        ClientError: its code is the HTTP status, or 1006 where the server cannot be reached.
    """
    httpx = require("httpx", "client", why="requests to a server")
    options = options or ListenOptions()
    headers = {"Authorization": f"Bearer {options.bearer}"} if options.bearer else {}
    form = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
    url = f"{options.base()}/v1/audio/transcriptions"
    try:
        with open(path, "rb") as file:
            answer = httpx.post(url, data=form, files={"file": (Path(path).name, file)}, headers=headers, timeout=timeout)
    except httpx.HTTPError as error:
        raise ClientError(1006, "UNREACHABLE", f"{url} cannot be reached ({error or type(error).__name__})") from error
    if answer.status_code != 200:
        raise ClientError(answer.status_code, "REFUSED", _complaint(answer))
    return answer.json()


def _complaint(answer: Any) -> str:
    try:
        found = answer.json()
        return str(found["error"]["message"]) if isinstance(found.get("error"), dict) else str(found.get("detail", found))
    except (ValueError, KeyError, AttributeError):
        return answer.text[:300]
