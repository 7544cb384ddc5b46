"""Real servers to test against: `voxkit serve` as processes that can be killed, and what stands before two of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.clients.background import BackgroundServer

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Replica:
    """A process of `voxkit serve` over an artifact; `wait` until it is ready."""

    def __init__(self, artifact: Path, *options: str) -> None:
        self.port = free_port()
        self.log = artifact.parent / f"serve-{self.port}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "voxkit.cli.main", "serve", str(artifact), "--port", str(self.port),
                                             "--threads", "1", *options], stdout=log, stderr=subprocess.STDOUT,
                                            env={**os.environ, "PYTHONPATH": str(REPOSITORY)})

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def wait(self, seconds: float = 90) -> Replica:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                if answer.status == 200:
                    return self
            time.sleep(0.1)
        raise AssertionError(f"voxkit serve does not come up: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """As a machine that is gone: nobody says good-bye."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


class Balancer(BackgroundServer):
    """Hands each connection to the first of some ports that takes it, as a load balancer does. `most`: bytes that the first port gets of
    each client; then nothing further goes to it. `connections` counts by port; `answers`: finals that were asked for and came."""

    def __init__(self, *ports: int, most: float = float("inf")) -> None:
        self.ports, self.most = list(ports), most
        self.connections = dict.fromkeys(ports, 0)
        self.answers = dict.fromkeys(ports, 0)
        super().__init__()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self.ports:
            with contextlib.suppress(OSError):
                other = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            writer.transport.abort()
            return
        self.connections[port] += 1
        most = self.most if port == self.ports[0] else float("inf")
        tasks = [asyncio.create_task(_copy(reader, other[1], most)), asyncio.create_task(self._answer(other[0], writer, port))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, other[1]):
            one.close()
        for task in tasks:
            task.cancel()


    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        said = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                said += data
                self.answers[port] += said.count(b'"from_finalize": true')
                said = said.rpartition(b'"from_finalize": true')[2]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: float) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(int(min(65536, most))):
            most -= len(data)
            writer.write(data)
            await writer.drain()
            if most < 1:
                await asyncio.Event().wait()  # until the other direction ends
