"""Speech of games with its text: call-outs, mission briefings, and the dialogue of two adventure games, as `unpack.py` wrote them out.

    voxkit prepare gaming --corpus-dir corpus/gaming --out data

    callouts, briefings        test sets (Warzone 2100)
    fotaq_train, fotaq_dev     Flight of the Amazon Queen: 60 characters
    bass_train, bass_dev       Beneath a Steel Sky: British actors

Every split is by text: a sentence is in one of them only, however it is written, and what a test set says is in neither training nor dev.
Clips whose text has figures or stage directions are left out of training and dev: what was said is not what is written. `label` of a cut is
"doubtful" where recognizers agree on other words than the label's (`voxkit score --per condition --condition label`). The license of every
split stands in licenses.json, and the notice that must go with it in licenses/.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.audio.decode import AudioError
from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps, read_json
from voxkit.data.reader import file_recording
from voxkit.data.validate import Checks, Preparation, Report, mono_cut
from voxkit.files import read_text, write_json
from voxkit.text.normalize import normalize

if TYPE_CHECKING:
    from lhotse.cut import Cut

_VERSION = 1
DEV = 300  # clips of a dev set
# labels that recognizers contradict: "LZ" is read as "landing zone" by two of them
DOUBTFUL = {"callouts": {"ENEMY LZ DETECTED"}}
_DIRECTIONS = re.compile(r"[<(\[*].*[>)\]*]|\d")


@dataclass(frozen=True)
class Source:
    """A folder of the corpus: what it is, under which license, whether it is a test set."""

    what: str
    license: str
    test: bool


SOURCES = {
    "callouts": Source("call-outs of Warzone 2100 (Debian warzone2100-data)", "GPL-2.0-or-later", True),
    "briefings": Source("mission briefings of Warzone 2100 (Debian warzone2100-data), text of the subtitles", "GPL-2.0-or-later", True),
    "fotaq": Source("Flight of the Amazon Queen, J. Passfield and S. Stamatiadis (Debian flight-of-the-amazon-queen)",
                    "Flight-of-the-Amazon-Queen-License: the notice stays with it, not sold alone", False),
    "bass": Source("Beneath a Steel Sky, Revolution Software (Debian beneath-a-steel-sky)",
                   "Beneath-a-Steel-Sky-License: the notice stays with it, not sold alone", False),
}


@dataclass(frozen=True)
class Clip:
    """A clip of a source and what its table says of it."""

    id: str
    path: Path
    text: str
    speaker: str
    source: str

    @property
    def key(self) -> str:
        """What clips share that say the same."""
        return normalize("librispeech", self.text)


def prepare_gaming(out: str | os.PathLike, corpus_dir: str | os.PathLike, sets: Sequence[str] = tuple(SOURCES), *, dev: int = DEV,
                   checks: Checks | None = None, jobs: int | None = None) -> Preparation:
    """Make the splits of `sets` under `out`, unless they are there.

    Raises:
        ValueError: a set that is none, no such folder, a table that lacks a column or a clip.
    """
    checks = checks or Checks(text="librispeech")
    root, out = Path(corpus_dir).expanduser().absolute(), Path(out).absolute()
    if unknown := [name for name in sets if name not in SOURCES]:
        raise ValueError(f"--sets {unknown[0]}: none of {', '.join(SOURCES)}")
    found = {name: read_source(root, name) for name in SOURCES if name in sets or (root / name).is_dir()}
    options = {"version": _VERSION, "corpus_dir": str(root), "dev": dev}
    splits, reasons = split_by_text(found, dev)
    splits = {split: clips for split, clips in splits.items() if split.split("_")[0] in sets}
    tables = file_stamps(root / name / "text.tsv" for name in found)
    stamps = {split: [tables, file_stamps(clip.path for clip in clips)] for split, clips in splits.items()}
    preparation = Preparation(out, "gaming", checks, options, stamps)
    missing = [split for split in splits if not preparation.done(split)]
    for split in missing:
        with open_executor(jobs, None, threads=True) as executor:
            preparation.executor = executor
            report = preparation.begin(split)
            for clip, reason in reasons.get(split, []):
                report.reject(clip.id, *reason)
            if doubtful := sum(clip.key in DOUBTFUL.get(split, ()) for clip in splits[split]):
                report.note("clips whose label is doubtful, kept (--per condition --condition label tells them apart)", doubtful)
            preparation.finish(split, _cuts(splits[split], split, report))
    _record_licenses(root, out, list(splits))
    return preparation


def read_source(root: Path, name: str) -> list[Clip]:
    """The clips of a folder, in its table's order.

    Raises:
        ValueError: it, its table, a column or clips are not there.
    """
    table = root / name / "text.tsv"
    if not table.is_file():
        raise ValueError(f"{table}: no such table; --corpus-dir is the folder gaming/ that unpack.py made, and --sets names what is in it")
    rows = list(csv.DictReader(io.StringIO(read_text(table), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"path", "text"} <= set(rows[0]):
        raise ValueError(f"{table}: a header with path and text is needed, and lines below it")
    clips = []
    for row in rows:
        path = root / name / row["path"]
        speaker = f"{name}-{row.get('speaker') or row.get('source') or name}"
        clips.append(Clip(f"{name}-{path.stem}", path, spelled(row["text"] or ""), speaker, name))
    if gone := [clip.path for clip in clips if not clip.path.is_file()]:
        raise ValueError(f"{table}: {len(gone)} of {len(clips)} clips are not there, the first is {gone[0]}; run unpack.py anew")
    return clips


def spelled(text: str) -> str:
    """A text as it is said: "&" is "and", game files' quotation marks are none."""
    return " ".join(text.replace("&", " and ").replace("`", "'").split())


Reasons = dict[str, list[tuple[Clip, tuple[str, str]]]]


def split_by_text(found: dict[str, list[Clip]], dev: int) -> tuple[dict[str, list[Clip]], Reasons]:
    """Every clip into a split, no text into two of them.

    Args:
        found: source → clips. dev: clips of each dev set, at least, with all others of their texts.

    Returns:
        split → clips; and for each split the clips of its source that were left out, with (reason, detail).
    """
    tested = {clip.key: name for name, clips in found.items() if SOURCES[name].test for clip in clips}
    splits: dict[str, list[Clip]] = {name: clips for name, clips in found.items() if SOURCES[name].test}
    reasons: Reasons = {}
    held_out: set[str] = set()
    kept: dict[str, list[Clip]] = {}
    for name, clips in found.items():
        if SOURCES[name].test:
            continue
        kept[name], out = [], []
        for clip in clips:
            if clip.key in tested:
                out.append((clip, ("text of a test set", f"{clip.text!r} is in {tested[clip.key]}")))
            elif direction := _DIRECTIONS.search(clip.text):
                out.append((clip, ("figures or stage directions in the text", direction[0])))
            else:
                kept[name].append(clip)
        reasons[f"{name}_train"] = out
        keys = sorted({clip.key for clip in kept[name]}, key=lambda key: hashlib.sha256(key.encode()).digest())
        counts = Counter(clip.key for clip in kept[name])
        total = sum(counts[key] for key in keys if key in held_out)
        for key in keys:
            if total >= dev:
                break
            total += counts[key] if key not in held_out else 0
            held_out.add(key)
    for name, clips in kept.items():
        splits[f"{name}_dev"] = [clip for clip in clips if clip.key in held_out]
        splits[f"{name}_train"] = [clip for clip in clips if clip.key not in held_out]
    return splits, reasons


def _cuts(clips: Sequence[Clip], split: str, report: Report) -> Iterator[Cut]:
    from lhotse import SupervisionSegment

    for clip in clips:
        try:
            recording = file_recording(clip.path, clip.id)
        except AudioError as error:
            report.reject(clip.id, error.reason, str(error))
            continue
        label = "doubtful" if clip.key in DOUBTFUL.get(split, ()) else "sure"
        yield mono_cut(recording, SupervisionSegment(
            id=clip.id, recording_id=recording.id, start=0.0, duration=recording.duration, channel=0, text=clip.text, speaker=clip.speaker,
            language="English", custom={"label": label, "license": SOURCES[clip.source].license}))


def _record_licenses(root: Path, out: Path, splits: Sequence[str]) -> None:
    known: dict[str, Any] = read_json(out / "licenses.json")
    for split in splits:
        name = split.split("_")[0]
        entry = {"source": SOURCES[name].what, "license": SOURCES[name].license}
        notice = root / name / "LICENSE.txt"
        if notice.is_file():
            (out / "licenses").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(notice, out / "licenses" / f"{name}.txt")
            entry["notice"] = f"licenses/{name}.txt"
        known[split] = entry
    write_json(out / "licenses.json", known)


def add_arguments(parser: Any) -> Callable:
    """Options of `voxkit prepare gaming`; returns what runs them."""
    parser.add_argument("--corpus-dir", required=True, metavar="PATH", help="the folder gaming/ with callouts, briefings, fotaq, bass")
    parser.add_argument("--sets", nargs="+", default=list(SOURCES), metavar="NAME", help=f"which of them (default {' '.join(SOURCES)})")
    parser.add_argument("--dev-clips", type=int, default=DEV, metavar="N", help=f"of each dev set, with all that say the same "
                                                                               f"(default {DEV})")
    return lambda args, checks: prepare_gaming(args.out, args.corpus_dir, args.sets, dev=args.dev_clips, checks=checks, jobs=args.jobs)
