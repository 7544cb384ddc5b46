"""Clients that behave badly, beside some that behave: `python -m benchmarks.serve.soak ARTIFACT --audio FOLDER --minutes 5`.

Those that behave must hear the same each time: no final lost, no text of another session. The others vanish, send garbage, half
frames, NaN, 48 kHz stereo, silence, rates that are none, a minute of audio at once. At the end: no crash, /health answers, no session is
left, memory is flat.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
from websockets.asyncio.client import connect

from benchmarks.serve.talk import RATE, Server, clips, pcm, talk

_GROWTH = 1.15  # of memory between the first third and the last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--audio", required=True, metavar="FOLDER", help="speech")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--good", type=int, default=2, help="clients that behave (default 2)")
    parser.add_argument("--bad", type=int, default=3, help="clients that do not (default 3)")
    arguments = parser.parse_args()
    report = soak(arguments.artifact, clips(arguments.audio, 4, 6.0), 60 * arguments.minutes, arguments.good, arguments.bad)
    print(json.dumps(report, indent=1))
    return bool(report["problems"])


def soak(artifact: str, recordings: list[np.ndarray], seconds: float, good: int, bad: int, *options: str) -> dict:
    """Run it → what happened; `problems` names what must not have."""
    server = Server(artifact, "--idle-timeout", "2", "--max-sessions", "64", *options)
    try:
        return asyncio.run(_Soak(server, recordings, seconds).run(good, bad))
    finally:
        server.stop(kill=True)


class _Soak:
    def __init__(self, server: Server, recordings: list[np.ndarray], seconds: float) -> None:
        self.server, self.recordings, self.seconds = server, recordings, seconds
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.memory: list[float] = []

    async def run(self, good: int, bad: int) -> dict:
        """All clients, until the time is over."""
        port = self.server.port
        expected = [(await talk(port, audio, speed=0)).texts for audio in self.recordings]  # each alone
        if not all(expected):
            raise ValueError("the model hears nothing in the recordings; give it speech")
        self.until = time.monotonic() + self.seconds
        await asyncio.gather(*(self._good(i, expected) for i in range(good)), *(self._bad(i) for i in range(bad)), self._watch())
        await self._settled()
        for audio, texts in zip(self.recordings, expected):
            if (await talk(port, audio, speed=0)).texts != texts:
                self.problems.append("afterwards a recording is heard otherwise")
        third = max(1, len(self.memory) // 3)
        first, last = max(self.memory[:third]), max(self.memory[-third:])
        if self.seconds >= 60 and last > first * _GROWTH:
            self.problems.append(f"memory grew from {first:.0f} to {last:.0f} MB")
        log = "".join(self.server.log)
        if "Traceback" in log:
            self.problems.append("a traceback: " + log[log.index("Traceback"):][:1500])
        return {"problems": self.problems, "clients": dict(self.counts), "megabytes": [round(first), round(last)]}

    async def _good(self, number: int, expected: list[list[str]]) -> None:
        for i in itertools.count(number):
            if time.monotonic() > self.until:
                return
            which = i % len(self.recordings)
            heard = await talk(self.server.port, self.recordings[which], speed=4.0)
            self.counts["refused" if heard.code == 4429 else "good"] += 1
            if heard.code == 4429:
                await asyncio.sleep(1.0)
            elif heard.texts != expected[which] or heard.code != 1000:
                self.problems.append(f"recording {which}: {heard.texts} and not {expected[which]}; close {heard.code} {heard.error}")

    async def _bad(self, number: int) -> None:
        port, audio = self.server.port, self.recordings[0]
        ways: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("vanishes", lambda: self._send(port, [pcm(audio[:RATE])] * 2, vanish=True)),
            ("garbage", lambda: self._send(port, ["{", b"\xff" * 999, "[]"])),
            ("half a frame", lambda: self._send(port, [b"\0" * 641])),
            ("half a message", lambda: self._raw(port, b"GET /v1/listen HTTP/1.1\r\nHost: x\r\nUpgr")),
            ("NaN", lambda: self._send(port, [np.full(1600, np.nan, "<f4").tobytes()], encoding="linear32")),
            ("48 kHz stereo", lambda: self._send(port, [bytes(48000 * 4 // 10)] * 20, sample_rate="48000", channels="2")),
            ("silence", lambda: self._send(port, [bytes(32000)] * 30)),
            ("unknown rate", lambda: self._send(port, [bytes(3200)], sample_rate="22051")),
            ("much audio", lambda: self._send(port, [pcm(audio[:RATE])] * 60, vanish=True)),
            ("says nothing", lambda: self._send(port, [], close=False)),
            ("half a body", lambda: self._raw(port, b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{")),
            ("does not read", lambda: self._unread(port, audio)),
        ]
        for i in itertools.count(number):
            if time.monotonic() > self.until:
                return
            name, way = ways[i % len(ways)]
            try:
                await asyncio.wait_for(way(), 60)
            except asyncio.TimeoutError:
                self.problems.append(f"{name}: it hangs")
            except (OSError, Exception) as error:  # a connection that was cut is what some of them ask for
                self.counts[f"cut: {type(error).__name__}"] += 1
            self.counts[name] += 1

    async def _send(self, port: int, messages: list, vanish: bool = False, close: bool = True, **query: str) -> None:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        async with connect(f"ws://127.0.0.1:{port}/v1/listen?{asked}", ping_interval=None, max_size=None) as socket:
            for message in messages:
                await socket.send(message)
            if vanish:
                socket.transport.abort()
                return
            if close:
                await socket.send('{"type": "CloseStream"}')
            async for _ in socket:
                self.counts["messages"] += 1

    async def _unread(self, port: int, audio: np.ndarray) -> None:
        async with connect(f"ws://127.0.0.1:{port}/v1/listen?interim_results=true", ping_interval=None, max_queue=1) as socket:
            for _ in range(20):
                await socket.send(pcm(audio[:RATE]))
            await asyncio.sleep(1.0)
            socket.transport.abort()

    async def _raw(self, port: int, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        await asyncio.sleep(0.5)
        writer.close()

    async def _watch(self) -> None:
        while time.monotonic() < self.until:
            self.memory.append(self.server.megabytes())
            began = time.monotonic()
            await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/health", timeout=30).read())
            self.counts["slowest /health, ms"] = max(self.counts["slowest /health, ms"], round(1000 * (time.monotonic() - began)))
            await asyncio.sleep(0.5)

    async def _settled(self) -> None:
        for _ in range(200):
            found = self.server.figures()
            if not any(value for name, value in found.items() if name.startswith("voxkit_sessions{")):
                return
            await asyncio.sleep(0.1)
        self.problems.append("sessions are left")


if __name__ == "__main__":
    raise SystemExit(main())
