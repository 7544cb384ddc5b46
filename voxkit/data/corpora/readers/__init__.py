"""Ways in which people keep their speech: tables of transcripts, Kaldi directories, lhotse manifests, all read into `Listing`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhotse import Recording, SupervisionSegment

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".sph", ".aif", ".aiff", ".au", ".wma", ".webm")

_USUAL = {
    "train": "train", "training": "train", "trn": "train",
    "dev": "dev", "valid": "dev", "validation": "dev", "val": "dev", "development": "dev",
    "test": "test", "eval": "test", "evaluation": "test", "tst": "test",
}


@dataclass
class Utterance:
    """One utterance as a reader found it: an audio file, or lhotse's own pair.

    Attributes:
        id: the utterance's name.
        text: its transcript as written; None where there is none.
        audio: the file; None with `pair`.
        speaker: who speaks, None where that is not known.
        start: seconds into the file.
        end: seconds; None means the end of the file.
        channel: of the file, None = its first.
        recording_id: name of the recording that several utterances share; None means the utterance's own.
        pair: a recording and a supervision that lhotse knows already.
        problem: (reason, detail) why it cannot be used.
    """

    id: str
    text: str | None
    audio: Path | None = None
    speaker: str | None = None
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    recording_id: str | None = None
    pair: tuple[Recording, SupervisionSegment] | None = None
    problem: tuple[str, str] | None = None


@dataclass
class Listing:
    """What a reader lists: utterances by the name of their set, "" where the set has none; and the files it read."""

    kind: str
    sets: dict[str, list[Utterance]] = field(default_factory=lambda: defaultdict(list))
    files: list[Path] = field(default_factory=list)


def usual_name(name: str) -> str:
    """train, dev or test for the names people give those ("validation", "eval"); other names stay."""
    return _USUAL.get(name.lower(), name)


def is_file(path: Path) -> bool:
    """Whether there is such a file; names that no file can have (too long, with a NUL) are of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def path_ids(paths: Iterable[Path], root: Path) -> dict[Path, str]:
    """Ids of audio files: the path below `root` without its suffix, joined by "-" (a/b.wav → a-b). Where two would be called the same,
    both keep their "/" (a/b-c.wav and a-b/c.wav → a/b-c and a-b/c)."""
    ids, files = {}, defaultdict(set)
    for path in paths:
        inside = (path.relative_to(root) if path.is_relative_to(root) else Path(path.name)).with_suffix("")
        ids[path] = inside
        files["-".join(inside.parts)].add(inside)
    return {path: "-".join(inside.parts) if len(files["-".join(inside.parts)]) == 1 else inside.as_posix()
            for path, inside in ids.items()}


def set_of(stem: str, prefixes: str) -> str:
    """The set that a file's name speaks of: "cuts_train" → train, "libri_cuts_dev-clean" → dev-clean, "cuts" → ""."""
    found = re.search(rf"(?:^|[_-])(?:{prefixes})(?:[_.-](?P<after>.+))?$", stem)
    if not found:
        return usual_name(stem)
    before = stem[: found.start()]
    return usual_name(found["after"] or (before if before.lower() in _USUAL else ""))


class AudioFinder:
    """Audio files by what a transcript calls them: a path, with or without its extension, or the bare name.

    Args:
        folders: where paths start, in this order.
        root: the tree in which a bare name is looked for.
    """

    def __init__(self, folders: list[Path], root: Path):
        self.folders, self.root = folders, root
        self._index: Mapping[str, list[Path]] | None = None

    def find(self, name: str) -> tuple[Path | None, tuple[str, str] | None]:
        """(file, None), or (None, (reason, detail))."""
        if not name:
            return None, ("missing audio", "no file is named")
        for folder in self.folders:
            path = folder / name
            if is_file(path):
                return path, None
            if path.name and path.suffix.lower() not in AUDIO:
                for suffix in AUDIO:
                    if is_file(longer := path.with_name(path.name + suffix)):
                        return longer, None
        found = self.index().get(Path(name).name, [])
        if len(found) == 1:
            return found[0], None
        if found:
            return None, ("ambiguous audio", f"{name!r} may be {found[0]} or {found[1]}")
        return None, ("missing audio", str(self.folders[0] / name))

    def index(self) -> Mapping[str, list[Path]]:
        """Audio files of the tree by name, and by name without extension."""
        if self._index is None:
            index: dict[str, list[Path]] = defaultdict(list)
            for path in sorted(self.root.rglob("*")):
                if path.suffix.lower() in AUDIO and path.is_file():
                    index[path.name].append(path)
                    index[path.stem].append(path)
            self._index = index
        return self._index
