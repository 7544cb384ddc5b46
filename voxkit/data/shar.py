"""lhotse Shar directories (cuts.000000.jsonl.gz, recording.000000.tar, ...), on this machine or at a URL that fsspec opens.

The cuts of a shard are read without its audio, so that a sampler can hold thousands of them; a cut then names the archive and its member,
and whoever wants the audio reads that member alone. What lies at a URL is fetched shard by shard when it is first wanted, into
VOXKIT_CACHE/shar (default ~/.cache/voxkit/shar), and kept there: a shard never changes.

https://example.org/train/cuts.{000000..000039}.jsonl.gz names the shards where a server lists no directories.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from voxkit.data.pieces import split_manifest

_CUTS = re.compile(r"cuts\.(.+?)\.jsonl(\.gz)?$")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_OPEN_ARCHIVES = 64  # archives whose members a process remembers


@dataclass(frozen=True)
class Shard:
    """One shard: `cuts` and the archives by field, as paths or URLs. A piece of a set, as voxkit.data.pieces has them."""

    cuts: str
    archives: tuple[tuple[str, str], ...]
    lines: None = None

    @property
    def stamp(self) -> str:
        """What tells it from another version of the set."""
        return _name(self.cuts)

    def count(self) -> int:
        """How many cuts it holds; reads them."""
        return sum(piece.count() for piece in split_manifest(local(self.cuts)))

    def read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(place, cut as a dict): placeholders for audio and features name archive and member."""
        archives = dict(self.archives)
        for piece in split_manifest(local(self.cuts)):
            for where, cut in piece.read():
                if "recording" in archives and cut.get("recording"):
                    for source in cut["recording"]["sources"]:
                        if source["type"] == "shar":
                            source["source"] = f"{archives['recording']}#{cut['id']}"
                if "features" in archives and cut.get("features", {}).get("storage_type") == "shar":
                    cut["features"].update(storage_path=archives["features"], storage_key=cut["id"])
                yield where, cut


def is_shar(name: str) -> bool:
    """Whether a set's name is a Shar directory's path or URL."""
    return "://" in name or (Path(name).is_dir() and any(_CUTS.match(p.name) for p in Path(name).iterdir()))


def find_shards(name: str) -> list[Shard]:
    """The shards of a directory or URL, in the order of their numbers.

    Raises:
        ValueError: there are none, or a field lacks shards.
    """
    if match := _RANGE.search(name):
        width, last = len(match[1]), int(match[2])
        numbers = [f"{n:0{width}}" for n in range(int(match[1]), last + 1)]
        urls = [name[:match.start()] + n + name[match.end():] for n in numbers]
        if not _CUTS.search(urls[0] if urls else ""):
            raise ValueError(f"{name}: expected .../cuts.{{000000..000039}}.jsonl.gz")
        return [Shard(url, (("recording", _CUTS.sub(lambda m: f"recording.{m[1]}.tar", url)),)) for url in urls]
    files = _listed(name)
    cuts = sorted(f for f in files if _CUTS.match(_name(f)))
    if not cuts:
        raise ValueError(f"{name}: no shards (cuts.000000.jsonl.gz, ...) there" + ("; a server that lists no directories wants "
                         "the names: .../cuts.{000000..000039}.jsonl.gz" if "://" in name else ""))
    fields = {}
    for field in ("recording", "features"):
        archives = sorted(f for f in files if re.match(rf"{field}\..+\.tar(\.gz)?$", _name(f)))
        if archives and len(archives) != len(cuts):
            raise ValueError(f"{name}: {len(cuts)} shards of cuts and {len(archives)} of {field}; the copy is not whole")
        fields[field] = archives
    return [Shard(path, tuple((field, archives[i]) for field, archives in fields.items() if archives)) for i, path in enumerate(cuts)]


def _name(path: str) -> str:
    return PurePosixPath(path.split("?")[0]).name


def _listed(name: str) -> list[str]:
    if "://" not in name:
        return [str(p.absolute()) for p in Path(name).iterdir()]
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(name)
        return [system.unstrip_protocol(path) for path in system.ls(root, detail=False)]
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"{name}: cannot be listed ({error})") from error


def local(place: str) -> Path:
    """The file of a path or URL on this machine; a URL's is fetched once, whoever asks first, and kept.

    Raises:
        ValueError: it cannot be fetched.
    """
    if "://" not in place:
        return Path(place)
    import fsspec

    from voxkit.files import writing

    root = Path(os.environ.get("VOXKIT_CACHE") or Path.home() / ".cache" / "voxkit") / "shar"
    target = root / hashlib.sha256(place.rpartition("/")[0].encode()).hexdigest()[:16] / _name(place)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.with_name(f".{target.name}.lock")):
        if not target.is_file():
            try:
                with fsspec.open(place, "rb") as source, writing(target, "wb") as file:
                    while block := source.read(1 << 20):
                        file.write(block)
            except (ImportError, OSError, ValueError) as error:
                raise ValueError(f"{place}: cannot be fetched ({error})") from error
    return target


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: two may fetch the same, and each replaces the other's by the same
        yield
        return
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=_OPEN_ARCHIVES)
def _members(archive: Path) -> dict[str, tuple[tuple[str, int, int], ...]]:
    """Member's name without its last suffix → (suffix, offset, bytes) of data and metadata."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                path = PurePosixPath(info.name)
                found.setdefault(str(path.with_suffix("")), []).append((path.suffix, info.offset_data, info.size))
    except tarfile.TarError as error:
        raise ValueError(f"{archive}: not a whole tar archive ({error}); a gzipped one cannot be entered: gunzip it") from error
    return {name: tuple(parts) for name, parts in found.items()}


def member(archive: str, id: str) -> tuple[str, bytes, bytes]:
    """(suffix, data, JSON of the manifest) of one cut in an archive.

    Raises:
        ValueError: the archive lacks it.
    """
    path = local(archive)
    parts = _members(path).get(id, ())
    data = next((part for part in parts if part[0] not in (".json", ".nodata", ".nometa")), None)
    meta = next((part for part in parts if part[0] == ".json"), None)
    if data is None or meta is None:
        raise ValueError(f"{archive}: no data of {id} in it")
    with open(path, "rb") as file:
        read = []
        for _, offset, size in (data, meta):
            file.seek(offset)
            read.append(file.read(size))
    if len(read[0]) < data[2]:
        raise ValueError(f"{archive}: cut short")
    return data[0], read[0], read[1]


def fill(cut: Any) -> Any:
    """A cut whose placeholders are filled with the bytes from its archives; a cut without any is returned as it is."""
    from lhotse.serialization import decode_json_line, deserialize_item
    from lhotse.shar.utils import fill_shar_placeholder
    from lhotse.utils import fastcopy

    if hasattr(cut, "tracks"):
        return fastcopy(cut, tracks=[fastcopy(track, cut=fill(track.cut)) for track in cut.tracks])
    if getattr(cut, "recording", None) is not None and (recording := fill_recording(cut.recording)) is not cut.recording:
        cut = fastcopy(cut, recording=recording)
    if getattr(cut, "features", None) is not None and cut.features.storage_type == "shar":
        suffix, data, meta = member(cut.features.storage_path, cut.features.storage_key)
        features = deserialize_item(decode_json_line(meta.decode()))
        fill_shar_placeholder(features, data, f"data{suffix}")
        cut = fastcopy(cut, features=features)
    return cut


def fill_recording(recording: Any) -> Any:
    """The same for a recording."""
    from lhotse.utils import fastcopy

    if all(source.type != "shar" for source in recording.sources):
        return recording
    sources = []
    for source in recording.sources:
        archive, _, id = source.source.rpartition("#")
        sources.append(fastcopy(source, type="memory", source=member(archive, id)[1]))
    return fastcopy(recording, sources=sources)
