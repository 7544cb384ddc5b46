"""How cached states lie on disk: shards and their index, and by what a cut's audio is known."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Iterator

import numpy as np
import torch
from torch import Tensor

from voxkit.files import write_text

logger = logging.getLogger(__name__)

DTYPES = {"float16": (np.float16, torch.float16), "bfloat16": (np.uint16, torch.bfloat16),
          "float32": (np.float32, torch.float32)}
FORMAT = 1
_NUMBERS = "next-shard.txt"
_NOT_AUDIO = ("supervisions", "custom", "features")


@dataclass(frozen=True)
class Entry:
    """Where a cut's states lie. `states` are the fingerprints of the L states, in their order; `offset` in bytes. Indexes of older
    versions tell neither the `seconds` of the cut nor the `encoder`, its name in the configuration, nor the `sample` of its bytes."""

    shard: str
    offset: int
    frames: int
    dim: int
    dtype: str
    audio: str
    states: tuple[str, ...]
    seconds: float | None = None
    encoder: str = ""
    sample: int | None = None

    @property
    def num_bytes(self) -> int:
        return len(self.states) * self.frames * self.dim * np.dtype(DTYPES[self.dtype][0]).itemsize


class ShardWriter:
    """Collects entries; every `megabytes` it writes data, then index, each under a temporary name first. The shards of several
    processes (ranks) that write at a time have names of their own."""

    def __init__(self, directory: Path, megabytes: float, dtype: str, rank: int = 0, encoder: str = ""):
        self.directory, self.dtype, self.rank, self.encoder = directory, dtype, rank, encoder
        self.limit = megabytes * 1e6
        self.number = next_number(directory)
        self._start()

    def _start(self) -> None:
        self.file: BinaryIO | None = None
        self.offset = 0
        self.index: dict[str, dict[str, Any]] = {}

    def add(self, cut: Any, states: Tensor, keys: tuple[str, ...]) -> None:
        """states [L, T, D] in the type of the cache; keys: the fingerprints of the L states."""
        data = states.contiguous().view(torch.uint8).numpy()
        if self.file is None:
            self.file = open(self._path("part"), "wb")
        self.file.write(data.data)
        self.index[cut.id] = {"offset": self.offset, "frames": states.shape[1], "dim": states.shape[2],
                              "audio": audio_identity(cut), "states": keys, "seconds": round(cut.duration, 3),
                              "sample": sample_of(data.reshape(-1))}
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
        index = {"format": FORMAT, "dtype": self.dtype, "encoder": self.encoder, "states": groups, "cuts": cuts}
        write_text(self._path("json"), json.dumps(index))
        self.number += 1
        self._start()

    def _path(self, suffix: str) -> Path:
        return self.directory / f"shard-{self.number:05d}-{self.rank}.{suffix}"


def data_size(index: Path) -> int:
    """Bytes of a shard's data; 0 where it is gone."""
    try:
        return index.with_suffix(".bin").stat().st_size
    except FileNotFoundError:
        return 0


def sample_of(data: np.ndarray) -> int:
    """CRC-32 of 16 places of an entry [bytes], 256 bytes each: enough to see that a stretch of it is zeros or of something else."""
    places = np.linspace(0, max(len(data) - 256, 0), 16).astype(int)
    return zlib.crc32(b"".join(data[place:place + 256].tobytes() for place in places))


def index_files(directory: Path) -> list[Path]:
    """The indexes of all shards, oldest first: of two entries for a cut the later counts."""
    return sorted(directory.glob("shard-*.json"))


def next_number(directory: Path) -> int:
    """Of the shard to be written next; above those that `keep_numbers` noted, too."""
    noted = directory / _NUMBERS
    taken = [int(path.stem.split("-")[1]) for path in index_files(directory)]
    return max(int(noted.read_text()) if noted.is_file() else 0, *(number + 1 for number in taken), 0)


def keep_numbers(directory: Path) -> None:
    """Before shards are deleted: their names are not given to others, which a run that reads the old ones would take for them."""
    write_text(directory / _NUMBERS, f"{next_number(directory)}\n")


def read_index(path: Path) -> dict[str, Entry]:
    """The entries of one shard, by cut id; none where index or data are gone or of another format."""
    data = path.with_suffix(".bin")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT or not data.is_file():
            return {}
        groups = [tuple(group) for group in index["states"]]
        encoder = index.get("encoder", "")
        return {cut_id: Entry(data.name, item["offset"], item["frames"], item["dim"], index["dtype"], item["audio"],
                              groups[item["states"]], item.get("seconds"), encoder, item.get("sample"))
                for cut_id, item in index["cuts"].items()}
    except FileNotFoundError:  # deleted since the directory was listed
        return {}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); delete it, its cuts will be encoded again") from error


def unfinished(directory: Path) -> list[Path]:
    """What an interrupted build left behind; while one runs, also what it is at."""
    return [path for path in (*directory.glob("shard-*.part"), *directory.glob("shard-*.bin"))
            if path.suffix == ".part" or not path.with_suffix(".json").exists()]


@contextlib.contextmanager
def locked(directory: Path, wait: bool = True) -> Iterator[None]:
    """One builder at a time; makes the directory. Where the system has no flock, nobody waits.

    Raises:
        ValueError: another holds the lock, and this one was not to wait.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise ValueError(f"{directory}: states are being built there; try again when that is done") from error
            logger.info("state cache %s: another process fills it; waiting until that is done", directory)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def audio_identity(cut: Any) -> str:
    """Hash of what decides a cut's samples: the audio files (size and a sample of their bytes, not where they lie), and all
    that is done to them (place, channel, speed and other transforms, mixed tracks)."""
    return content_hash(json.dumps(_describe(cut.to_dict()), sort_keys=True, default=str).encode())


def audio_files(cut: Any) -> list[str]:
    """Paths of the files that a cut's samples come from."""
    return list(_files(cut.to_dict()))


def _files(node: Any) -> Iterator[str]:
    if isinstance(node, dict) and "source" in node and "type" in node:  # an AudioSource
        if node["type"] == "file":
            yield node["source"]
        return
    children = [value for key, value in node.items() if key not in _NOT_AUDIO] if isinstance(node, dict) else node
    if isinstance(children, (list, tuple)):
        for child in children:
            yield from _files(child)


def _describe(node: Any) -> Any:
    if isinstance(node, dict):
        if "source" in node and "type" in node:  # an AudioSource
            source = node["source"]
            known = _file_sample(source) if node["type"] == "file" else str(source)
            return {"source": known, "channels": node.get("channels")}
        return {key: _describe(value) for key, value in node.items() if key not in _NOT_AUDIO}
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
    return f"{size} {content_hash(*parts)}"


def content_hash(*parts: bytes) -> str:
    """128 bits of SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]
