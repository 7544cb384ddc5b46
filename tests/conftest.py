"""Fixtures: where the real speech and models are. Each skips with its reason where they cannot be had.

VOXKIT_SHARED   the folder with data/ and tools/get_models.py (default: `shared` beside the repository)
VOXKIT_CACHE    where models and unpacked speech are kept (default: ~/.cache/voxkit)
VOXKIT_MODELS   a folder that holds whisper-tiny.en and whisper-base already
VOXKIT_CORPUS   a folder that unpack.py filled already
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run beside each other
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs a hub; one that asks for it should fail at once

REPOSITORY = Path(__file__).resolve().parents[1]
WHISPERS = ("whisper-tiny.en", "whisper-base")
GEMMA = "gemma3-270m"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real speech and models."""
    named = os.environ.get("VOXKIT_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no real data: {'VOXKIT_SHARED names ' if named else ''}{folder}, which is not there")
    return folder


@pytest.fixture(scope="session")
def real_corpus(shared_dir: Path) -> Path:
    """The speech as FLAC: LibriSpeech/, speechocean/, gaming/, noise/, rir/ (unpacked once, 20 s)."""
    named = os.environ.get("VOXKIT_CORPUS")
    if named:
        if not Path(named).is_dir():
            pytest.skip(f"VOXKIT_CORPUS names {named}, which is not there")
        return Path(named)
    script = shared_dir / "data" / "unpack.py"
    if not script.is_file():
        pytest.skip(f"no {script}")
    out = _cache() / "corpus"
    with _locked(out):
        _tool([script, out], done=out / ".unpacked")
    return out


@pytest.fixture(scope="session")
def real_models(shared_dir: Path) -> Path:
    """A folder with the Hugging Face folders whisper-tiny.en and whisper-base (real weights, made once)."""
    return _models(shared_dir, WHISPERS, needs=("transformers",))


@pytest.fixture(scope="session")
def real_gemma(shared_dir: Path) -> Path:
    """The Hugging Face folder of Gemma 3 270M (needs the gguf package and half a gigabyte)."""
    return _models(shared_dir, (GEMMA,), needs=("transformers", "gguf")) / GEMMA


def _models(shared: Path, names: tuple[str, ...], needs: tuple[str, ...]) -> Path:
    named = os.environ.get("VOXKIT_MODELS")
    out = Path(named) if named else _cache() / "models"
    if all((out / name / "model.safetensors").is_file() for name in names):
        return out
    if named:
        pytest.skip(f"VOXKIT_MODELS names {named}, which lacks {', '.join(names)}")
    for package in needs:
        pytest.importorskip(package, reason=f"making {', '.join(names)} needs {package}")
    with _locked(out):
        for name in names:
            _tool([shared / "tools" / "get_models.py", out, name], done=out / f".{name}")
    return out


def _tool(command: list, done: Path) -> None:
    """Run one of shared's scripts unless `done` says that it has; a failure skips with the end of what it said."""
    if done.exists():
        return
    result = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"{Path(command[0]).name} failed: {(result.stderr or result.stdout).strip()[-300:]}")
    done.touch()


def _cache() -> Path:
    return Path(os.environ.get("VOXKIT_CACHE") or Path.home() / ".cache" / "voxkit")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Test processes wait for each other to fill a folder."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
