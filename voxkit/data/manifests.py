"""Prepared data on disk: `cuts_<split>.jsonl.gz`, lhotse cuts of one supervision each, and `prepare.json` about how they came to be.

Audio (or features) inside the data directory is named relative to it, so that the directory can be moved; audio elsewhere by its full
path. `load_cuts` puts the directory back in front, lhotse's own `CutSet.from_file` would not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.files import write_text

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


def load_cuts(path: str | os.PathLike) -> CutSet:
    """The cuts of one `cuts_<split>.jsonl.gz`, lazily, with audio paths that work from anywhere.

    Raises:
        ValueError: it is not there.
    """
    from lhotse import CutSet

    path = existing(path)
    cuts, folder = CutSet.from_file(path), path.parent.absolute()
    return CutSet.from_cuts([]) if cuts is None else cuts.with_recording_path_prefix(folder).with_features_path_prefix(folder)


def save_cuts(cuts: Iterable[Cut], path: str | os.PathLike) -> None:
    """Write cuts, atomically, with audio paths relative to the file's directory where the audio lies inside it."""
    from lhotse import CutSet

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = path.parent.resolve()
    temporary = path.parent / f".{os.getpid()}.{path.name}"
    try:
        CutSet.from_cuts(_relative(cut, inside) for cut in cuts).to_file(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
