"""The four clients as programs of one command line, compiled once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.clients.serving import Replica
from tests.conftest import _locked

pytest.importorskip("websockets", reason="pip install 'voxkit[client]'")
CLIENTS = ("python", "javascript", "csharp", "cpp")
HERE = Path(__file__).resolve().parent


@dataclass
class Ran:
    """What a client said: events in order, its exit status."""

    status: int
    events: list[dict] = field(default_factory=list)

    def of(self, kind: str) -> list[dict]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def finals(self) -> list[dict]:
        return [event for event in self.of("Result") if event["final"]]

    @property
    def words(self) -> list[str]:
        return [word["word"] for final in self.finals for word in final["words"]]

    @property
    def text(self) -> str:
        return " ".join(final["text"] for final in self.finals if final["text"])


@dataclass
class Client:
    """One of CLIENTS; `start` begins it with the driver's arguments, `run` waits for its end."""

    name: str
    command: list[str]

    def start(self, *arguments: object) -> subprocess.Popen:
        return subprocess.Popen([*self.command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                encoding="utf-8", env={**os.environ, "PYTHONPATH": str(HERE.parents[1])})

    def run(self, *arguments: object, timeout: float = 120) -> Ran:
        return ended(self.start(*arguments), timeout)


def ended(process: subprocess.Popen, timeout: float = 120) -> Ran:
    """What a started client said."""
    try:
        out, complaint = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, complaint = process.communicate()
        raise AssertionError(f"a client hangs: {out[-2000:]} {complaint[-2000:]}") from None
    assert process.returncode in (0, 1) and not complaint, complaint[-3000:]
    return Ran(process.returncode, [json.loads(line) for line in out.splitlines()])


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """Samples [S] int16, or float in [-1, 1]."""
    if samples.dtype != np.int16:
        samples = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="session")
def artifact(tmp_path_factory) -> Path:
    """A streaming artifact with random weights, made once for all test processes: its texts are nonsense, and the same everywhere.
    VOXKIT_CLIENTS_ARTIFACT names a real one."""
    if named := os.environ.get("VOXKIT_CLIENTS_ARTIFACT"):
        return Path(named)
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'voxkit[export]'")
    pytest.importorskip("uvicorn", reason="pip install 'voxkit[serve]'")
    shared = _shared(tmp_path_factory) / "clients_artifact"
    with _locked(shared):
        if not (shared / "live" / "meta.json").is_file():
            from tests.export.tiny import loaded, waves
            from voxkit.export.package import ExportOptions, export_checkpoint
            from voxkit.export.parity import GateOptions, Utterance

            heard = [Utterance("u", waves(1.3)[0], "move to the base")]
            options = ExportOptions(streaming=True, chunk_ms=320, left_ms=1280, gate=GateOptions(tolerance=2e-2))
            export_checkpoint(loaded(shared, "fbank", None, True), shared / "live", heard, options)
    return shared / "live"


@pytest.fixture(scope="session")
def replica(artifact) -> Iterator[Replica]:
    """A real server over it."""
    running = Replica(artifact)
    try:
        yield running.wait()
    finally:
        running.stop()


@pytest.fixture(scope="session", params=CLIENTS)
def client(request, repository, tmp_path_factory) -> Client:
    """Each client in turn; skipped where what compiles or runs it is missing."""
    return build(request.param, repository, tmp_path_factory)


def build(name: str, repository: Path, factory: pytest.TempPathFactory) -> Client:
    """Compile a client; VOXKIT_CLIENTS_BUILD names a folder that keeps what was compiled."""
    sources = repository / "tools" / "clients" / name
    if name == "python":
        return Client(name, [sys.executable, str(HERE / "drivers" / "python.py")])
    if name == "javascript":
        _need("node", "apt-get install nodejs (18 or newer)")
        for flags in ([], ["--experimental-websocket"]):  # node 22 has it at once, 20.10 behind a flag
            if _works("node", *flags, "-e", "process.exit(globalThis.WebSocket ? 0 : 1)"):
                return Client(name, ["node", *flags, "--no-warnings", str(sources / "cli.mjs")])
        pytest.skip("this node has no WebSocket: apt-get install nodejs (20.10 or newer)")
    out = Path(os.environ.get("VOXKIT_CLIENTS_BUILD") or _shared(factory)) / name
    if name == "csharp":
        _need("mcs", "apt-get install mono-mcs mono-runtime libmono-system4.0-cil libmono-system-core4.0-cil")
        _need("mono", "apt-get install mono-runtime")
    else:
        _need("g++", "apt-get install g++")
        _need("make", "apt-get install make")
        for header, package in (("boost/beast.hpp", "libboost-dev"), ("nlohmann/json.hpp", "nlohmann-json3-dev"),
                                ("openssl/ssl.h", "libssl-dev")):
            if not _works("g++", "-E", "-x", "c++", "-include", header, "/dev/null"):
                pytest.skip(f"no {header}: apt-get install {package}")
    flags = "CXXFLAGS=-O0 -Wall -Wextra -Werror"
    with _locked(out):
        done = subprocess.run(["make", "-j2", "-C", str(sources), f"OUT={out}", flags], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    program = out / ("voxkit-client.exe" if name == "csharp" else "voxkit-client")
    return Client(name, ["mono", str(program)] if name == "csharp" else [str(program)])


def _shared(factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of this run of the tests."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _need(program: str, how: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program}: {how}")


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
