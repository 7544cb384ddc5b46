"""What the service's benchmarks share: a process of `voxkit serve`, clients that talk to it as they would in a game, and figures."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

RATE = 16000
PIECE = 0.1  # seconds of audio in a message
REPOSITORY = Path(__file__).resolve().parents[2]


class Server:
    """`voxkit serve DIR OPTIONS` in a process of its own, on a free port or on `port`."""

    def __init__(self, artifact: str, *options: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "voxkit.cli.main", "serve", artifact, "--port", str(port), *options]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
        assert self.process.stderr is not None
        self.log: list[str] = []
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"gRPC listens on port (\d+)", line):
                self.grpc_port = int(found[1])
            if found := re.search(r"running on https?://[^:]+:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError("the server did not start:\n" + "".join(self.log[-20:]))
        self._drain = subprocess_reader(self.process, self.log)

    def megabytes(self) -> float:
        """Of its memory, now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the process is gone")

    def processor(self) -> float:
        """Seconds of processor time, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def figures(self) -> dict[str, float]:
        """Of /metrics."""
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30).read().decode()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))}

    def stop(self, kill: bool = False) -> int:
        """SIGTERM, or SIGKILL → the status."""
        self.process.kill() if kill else self.process.terminate()
        return self.process.wait(60)


def subprocess_reader(process: subprocess.Popen, log: list[str]) -> Any:
    """Keep the last of what a process writes, so that it never waits for a reader."""
    import threading

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            del log[:-1000]

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


@dataclass
class Heard:
    """What a client was told.

    Attributes:
        finals: messages. partials: how many interim results. code: of the close; None: the connection broke.
        waits: seconds from sending the last piece that a final needed to the final (an endpointing's silence is audio that was sent).
        error: the last message, where it was one.
    """

    finals: list[dict[str, Any]] = field(default_factory=list)
    partials: int = 0
    code: int | None = None
    waits: list[float] = field(default_factory=list)
    error: dict[str, Any] | None = None

    @property
    def texts(self) -> list[str]:
        """Of finals that hold any."""
        found = [m["channel"]["alternatives"][0]["transcript"] for m in self.finals]
        return [text for text in found if text]

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Where the utterances are that hold words, in seconds of the recording."""
        return [(m["start"], m["start"] + m["duration"]) for m in self.finals if m["channel"]["alternatives"][0]["transcript"]]

    @property
    def end(self) -> float:
        """Of the last final, in seconds of the recording."""
        return self.finals[-1]["start"] + self.finals[-1]["duration"] if self.finals else 0.0


async def talk(port: int, audio: np.ndarray, *, speed: float = 1.0, offset: float = 0.0, heard: Heard | None = None, delay: float = 0.0,
               **query: Any) -> Heard:
    """A client that sends [S] float at 16 kHz from `offset` seconds on, as fast as it is spoken times `speed` (0: at once), and listens.

    Args:
        delay: seconds before it begins.
    """
    heard = heard or Heard()
    await asyncio.sleep(delay)
    address = f"ws://127.0.0.1:{port}/v1/listen?{urlencode({'interim_results': 'true', 'offset': offset, **query}, doseq=True)}"
    data = pcm(audio[round(offset * RATE):])
    sent: list[float] = []  # when each piece was
    size = int(PIECE * RATE) * 2
    async with connect(address, max_size=None, ping_interval=None, open_timeout=30) as socket:
        async def send() -> None:
            began = time.monotonic()
            for i, first in enumerate(range(0, len(data), size)):
                if speed and (wait := began + (i + 1) * PIECE / speed - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await socket.send(data[first:first + size])
                sent.append(time.monotonic())
            await socket.send('{"type": "CloseStream"}')

        sending = asyncio.create_task(send())
        try:
            async for raw in socket:
                message, now = json.loads(raw), time.monotonic()
                if message["type"] == "Results" and message["is_final"]:
                    heard.finals.append(message)
                    last = min(len(sent), max(1, round((message["start"] + message["duration"] - offset) / PIECE + 0.4999)))
                    if message["channel"]["alternatives"][0]["words"]:
                        heard.waits.append(now - sent[last - 1])
                elif message["type"] == "Results":
                    heard.partials += 1
                elif message["type"] == "Error":
                    heard.error = message
            heard.code = socket.close_code
        except ConnectionClosed:
            heard.code = socket.close_code
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    return heard


def pcm(audio: np.ndarray) -> bytes:
    """[S] float → 16-bit bytes."""
    return (np.clip(audio, -1, 1) * 32767).round().astype("<i2").tobytes()


def clips(folder: str, count: int, seconds: float) -> list[np.ndarray]:
    """So many recordings of about so many seconds, put together from the files below a folder, with 0.8 s of silence between them."""
    from voxkit.audio.decode import EXTENSIONS, read_mono

    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise ValueError(f"--audio {folder}: no audio files below it")
    out, at, quiet = [], 0, np.zeros(int(0.8 * RATE), np.float32)
    while len(out) < count:
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < seconds * RATE:
            parts += [read_mono(paths[at % len(paths)])[0], quiet]
            at += 1
        out.append(np.concatenate(parts)[:int(seconds * RATE)])
    return out


def quantile(values: Sequence[float], share: float) -> float:
    """Of a list."""
    return float(np.quantile(values, share)) if len(values) else float("nan")
