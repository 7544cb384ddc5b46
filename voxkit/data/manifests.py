"""Prepared data on disk: `cuts_<split>.jsonl.gz`, lhotse cuts of one supervision each, and `prepare.json` about how they came to be.

Audio (or features) inside the data directory is named relative to it, so that the directory can be moved; audio elsewhere by its full
path. `load_cuts` puts the directory back in front, lhotse's own `CutSet.from_file` would not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.data.pieces import Piece, split_manifest, write_blocks
from voxkit.data.shar import Shard, find_shards, is_shar
from voxkit.data.sources import check_sources
from voxkit.files import writing

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut


def cuts_path(out: str | os.PathLike, split: str) -> Path:
    """Where the cuts of a split are."""
    return Path(out) / f"cuts_{split}.jsonl.gz"


def existing(path: str | os.PathLike) -> Path:
    """The path of a `cuts_<split>.jsonl.gz` that is there.

    Raises:
        ValueError: it is not; the message lists the splits that are.
    """
    path = Path(path)
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("cuts_*.jsonl*")) if path.parent.is_dir() else []
        raise ValueError(f"no cuts at {path}; " + (f"there are: {', '.join(there)}" if there else "make them with `voxkit prepare`"))
    return path


def open_manifest(name: str | os.PathLike) -> tuple[Sequence[Piece | Shard], Path | None]:
    """The pieces of a manifest of cuts or of a Shar directory (path or URL), and the folder at which its relative paths start.

    Raises:
        ValueError: it is not there.
    """
    if is_shar(str(name)):
        return find_shards(str(name)), None
    path = existing(name)
    return split_manifest(path), path.parent.absolute()


def load_cuts(name: str | os.PathLike) -> CutSet:
    """The cuts of one `cuts_<split>.jsonl.gz` or Shar directory, lazily, with audio paths that work from anywhere.

    Raises:
        ValueError: it is not there. While it is read: it is damaged, or takes audio from anything but files.
    """
    from lhotse import CutSet

    return CutSet(_OneManifest(name))


class _OneManifest:
    """What a lazy CutSet wraps: every iteration reads it anew."""

    def __init__(self, name: str | os.PathLike) -> None:
        self.pieces, self.folder = open_manifest(name)

    def __iter__(self) -> Iterator[Cut]:
        for piece in self.pieces:
            for where, values in piece.read():
                yield cut_of(values, self.folder, where)

    def __len__(self) -> int:
        return sum(piece.count() for piece in self.pieces)


def cut_of(values: dict[str, Any], folder: Path | None, where: str) -> Cut:
    """A cut out of its dict (which is changed), with `folder` before relative paths.

    Raises:
        ValueError: no cut, a duration that is no number above 0, audio or features from anything but files; begins with `where`.
    """
    from lhotse.serialization import deserialize_item

    where = f"{where}, {values.get('id')}"
    check_sources(values, where)
    if folder is not None:
        _prefix(values, str(folder))
    try:
        cut = deserialize_item(values)
        if not 0 < cut.duration < math.inf:
            raise ValueError(f"cut {cut.id} lasts {cut.duration} s")
    except (AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{where}: not a cut of lhotse's ({error if isinstance(error, ValueError) else repr(error)})") from error
    return cut


def _prefix(cut: dict[str, Any], folder: str) -> None:
    for track in cut.get("tracks", ()):
        _prefix(track["cut"], folder)
    for source in (cut.get("recording") or {}).get("sources", ()):
        if source["type"] == "file":
            source["source"] = os.path.join(folder, source["source"])
    if (features := cut.get("features")) and not str(features["storage_type"]).startswith(("memory", "shar")):
        features["storage_path"] = os.path.join(folder, features["storage_path"])


def save_cuts(cuts: Iterable[Cut], path: str | os.PathLike) -> None:
    """Write cuts, atomically, with audio paths relative to the file's directory where the audio lies inside it."""
    path = Path(path)
    inside = path.parent.resolve()
    with writing(path, "wb") as file:
        write_blocks(file, (_relative(cut, inside).to_dict() for cut in cuts))


def _relative(cut: Cut, directory: Path) -> Cut:
    from lhotse.utils import fastcopy

    def source(s: Any) -> Any:
        if s.type != "file":
            return s
        full = Path(s.source).resolve()
        return fastcopy(s, source=str(full.relative_to(directory)) if full.is_relative_to(directory) else os.path.abspath(s.source))

    if cut.has_features:
        full = Path(cut.features.storage_path).resolve()
        place = str(full.relative_to(directory)) if full.is_relative_to(directory) else str(full)
        cut = fastcopy(cut, features=fastcopy(cut.features, storage_path=place))
    if not cut.has_recording:
        return cut
    recording = fastcopy(cut.recording, sources=[source(s) for s in cut.recording.sources])
    return fastcopy(cut, recording=recording)


def fingerprint(**what: Any) -> str:
    """64 bits of SHA-256 over options and whatever else decides a result, in hexadecimal."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of change of files: what a fingerprint needs to know of them."""
    return [(str(f), (stat := f.stat()).st_size, stat.st_mtime_ns) for f in sorted(files)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
