"""How cached states lie on disk: shards and their index, and by what a cut's audio is known."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor

from voxkit.config import write_text

DTYPES = {"float16": (np.float16, torch.float16), "bfloat16": (np.uint16, torch.bfloat16),
          "float32": (np.float32, torch.float32)}
FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """Where a cut's states lie. `states` are the fingerprints of the L states, in their order; `offset` in bytes."""

    shard: str
    offset: int
    frames: int
    dim: int
    dtype: str
    audio: str
    states: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return len(self.states) * self.frames * self.dim * np.dtype(DTYPES[self.dtype][0]).itemsize


class ShardWriter:
    """Collects entries; every `megabytes` it writes data, then index, each under a temporary name first. The shards of several
    processes (ranks) that write at a time have names of their own."""

    def __init__(self, directory: Path, megabytes: float, dtype: str, rank: int = 0):
        self.directory, self.dtype, self.rank = directory, dtype, rank
        self.limit = megabytes * 1e6
        taken = [int(path.stem.split("-")[1]) for path in directory.glob("shard-*.json")]
        self.number = max(taken, default=-1) + 1
        self._start()

    def _start(self) -> None:
        self.file, self.offset, self.index = None, 0, {}

    def add(self, cut: Any, states: Tensor, keys: tuple[str, ...]) -> None:
        """states [L, T, D] in the type of the cache; keys: the fingerprints of the L states."""
        data = states.contiguous().view(torch.uint8).numpy()
        if self.file is None:
            self.file = open(self._path("part"), "wb")
        self.file.write(data.data)
        self.index[cut.id] = {"offset": self.offset, "frames": states.shape[1], "dim": states.shape[2],
                              "audio": audio_identity(cut), "states": keys}
        self.offset += data.nbytes
        if self.offset >= self.limit:
            self.close()

    def close(self) -> None:
        """Finish the shard that is being written, if any."""
        if self.file is None:
            return
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self._path("part"), self._path("bin"))
        groups = sorted({entry["states"] for entry in self.index.values()})
        cuts = {cut_id: {**entry, "states": groups.index(entry["states"])} for cut_id, entry in self.index.items()}
        index = {"format": FORMAT, "dtype": self.dtype, "states": groups, "cuts": cuts}
        write_text(self._path("json"), json.dumps(index))
        self.number += 1
        self._start()

    def _path(self, suffix: str) -> Path:
        return self.directory / f"shard-{self.number:05d}-{self.rank}.{suffix}"


def read_index(path: Path) -> dict[str, Entry]:
    """The entries of one shard, by cut id; none where the data are gone or of another format."""
    data = path.with_suffix(".bin")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT or not data.is_file():
            return {}
        groups = [tuple(group) for group in index["states"]]
        return {cut_id: Entry(data.name, item["offset"], item["frames"], item["dim"], index["dtype"], item["audio"],
                              groups[item["states"]]) for cut_id, item in index["cuts"].items()}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); delete it, its cuts will be encoded again") from error


def remove_unfinished(directory: Path) -> None:
    """Delete what an interrupted build left behind."""
    for path in (*directory.glob("shard-*.part"), *directory.glob("shard-*.bin")):
        if path.suffix == ".part" or not path.with_suffix(".json").exists():
            path.unlink()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One builder at a time; makes the directory. Where the system has no flock, nobody waits."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(directory / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def audio_identity(cut: Any) -> str:
    """Hash of what decides a cut's samples: the audio files (size and a sample of their bytes, not where they lie), and all
    that is done to them (place, channel, speed and other transforms, mixed tracks)."""
    return _hash(json.dumps(_describe(cut.to_dict()), sort_keys=True, default=str).encode())


def _describe(node: Any) -> Any:
    if isinstance(node, dict):
        if "source" in node and "type" in node:  # an AudioSource
            source = node["source"]
            known = _file_sample(source) if node["type"] == "file" else str(source)
            return {"source": known, "channels": node.get("channels")}
        return {key: _describe(value) for key, value in node.items() if key not in ("supervisions", "custom", "features")}
    return [_describe(value) for value in node] if isinstance(node, (list, tuple)) else node


@cache
def _file_sample(path: str) -> str:
    """Size of a file and a hash of 4 kB at its start, middle and end."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            parts = []
            for place in (0, size // 2, max(0, size - 4096)):
                file.seek(place)
                parts.append(file.read(4096))
    except OSError:
        return f"unreadable {path}"
    return f"{size} {_hash(*parts)}"


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]
