"""lhotse manifests: cuts, or recordings with supervisions, in JSON lines, gzipped or not, JSON arrays, or a Shar directory of cuts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from voxkit.data.corpora.readers import Listing, Utterance, is_file, set_of
from voxkit.data.pieces import split_manifest
from voxkit.data.shar import find_shards, is_shar
from voxkit.data.sources import check_sources
from voxkit.files import read_text

_TIMES = ("start", "duration", "num_samples", "sampling_rate")


def find_manifests(root: Path) -> list[Path]:
    """Files of a folder that are called cuts, recordings or supervisions."""
    if is_shar(str(root)):
        return [root]
    return sorted(p for p in root.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz"))
                  and any(kind in p.name for kind in ("cuts", "recordings", "supervisions")))


def read_manifests(files: list[Path]) -> Listing:
    """Utterances of manifests, one for each supervision; the names of the files tell the sets apart. A row that is no manifest of lhotse's,
    or has times that are no numbers, is an utterance with a problem.

    Raises:
        ValueError: files that cannot be read, audio or features from anything but files, recordings without supervisions, or a file that
            names no set beside some that do.
    """
    found = Listing("lhotse manifests", files=[f for f in files if f.is_file()])
    shar = [p for p in files if p.is_dir()]
    cuts = [p for p in files if "cuts" in p.name] if not shar else []
    for path in shar:
        rows = ((row, where) for shard in find_shards(str(path)) for where, row in shard.read())
        found.sets[""] += [u for cut, where in _decoded(rows, _cut) for u in of_cut(cut, where, path)]
    for path in cuts:
        found.sets[_set(path, "cuts")] += [u for cut, where in _decoded(_rows(path), _cut) for u in of_cut(cut, where, path.parent)]
    if not cuts and not shar:
        recordings = {_set(p, "recordings"): p for p in files if "recordings" in p.name}
        supervisions = {_set(p, "supervisions"): p for p in files if "supervisions" in p.name}
        if alone := recordings.keys() ^ supervisions.keys():
            raise ValueError(f"{files[0].parent}: recordings and supervisions come in pairs; alone are those of: "
                             + ", ".join(n or "all" for n in sorted(alone)))
        for name, path in recordings.items():
            found.sets[name] += _of_pair(path, supervisions[name])
    if "" in found.sets and len(found.sets) > 1:
        raise ValueError(f"{files[0].parent}: a manifest whose name says no set lies beside those of "
                         f"{', '.join(sorted(filter(None, found.sets)))}: are its utterances theirs? Take it away, or call it ..._train")
    if len(found.sets) == 1 and not {"train", "dev", "test"} & found.sets.keys():
        found.sets = {"": next(iter(found.sets.values()))}
    return found


def _set(path: Path, kind: str) -> str:
    return set_of(path.name.split(".json")[0], kind)


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """(row, place) of a manifest."""
    if ".jsonl" in path.name:
        yield from ((row, where) for piece in split_manifest(path) for where, row in piece.read())
        return
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path}: expected a JSON array of objects, as lhotse writes them")
    yield from ((row, f"{path}:{i}") for i, row in enumerate(rows, 1))


def _decoded(rows: Iterator[tuple[dict[str, Any], str]], decode: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[Any, str]]:
    """(object of lhotse's, or the utterance that names why there is none; place) of every row."""
    for row, where in rows:
        check_sources(row, f"{where}, {row.get('id')}")
        id = str(row.get("id") or where)
        if bad := _no_number(row):
            yield Utterance(id, None, problem=("unreadable times", f"{where}: {bad}")), where
            continue
        try:
            yield decode(row), where
        except Exception as error:  # a row of any shape: lhotse does not check
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            yield Utterance(id, None, problem=("unreadable row", f"{where}: {reason}")), where


def _no_number(row: Any) -> str:
    """What of a row's times is not a finite number, "" if all are."""
    if isinstance(row, dict):
        for key, value in row.items():
            if key in _TIMES and (isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)):
                return f"{key} is {value!r}"
            if key != "custom" and isinstance(value, (dict, list)) and (bad := _no_number(value)):
                return bad
    elif isinstance(row, list):
        return next(filter(None, map(_no_number, row)), "")
    return ""


def _cut(row: dict[str, Any]) -> Any:
    from lhotse.serialization import deserialize_item

    return deserialize_item(row)


def _of_pair(recordings: Path, supervisions: Path) -> list[Utterance]:
    from lhotse import Recording, SupervisionSegment

    return _joined(_decoded(_rows(recordings), Recording.from_dict), _decoded(_rows(supervisions), SupervisionSegment.from_dict),
                   recordings.parent)


def of_sets(recordings: Any, supervisions: Any, folder: Path) -> list[Utterance]:
    """Utterances of a RecordingSet and a SupervisionSet, one for each supervision; relative paths start at `folder`."""
    return _joined(((r, f"recording {r.id}") for r in recordings), ((s, f"supervision {s.id}") for s in supervisions), folder)


def _joined(recordings: Iterable[tuple[Any, str]], supervisions: Iterable[tuple[Any, str]], folder: Path) -> list[Utterance]:
    by_id: dict[str, Any] = {}
    bad: list[Utterance] = []
    for recording, where in recordings:
        if isinstance(recording, Utterance):
            bad.append(recording)
        elif by_id.setdefault(recording.id, recording) is not recording:
            bad.append(Utterance(recording.id, None, problem=("duplicate id", f"{where}: another recording has it already")))
    found, used = [], set()
    for supervision, _ in supervisions:
        if isinstance(supervision, Utterance):
            found.append(supervision)
            continue
        recording = by_id.get(supervision.recording_id)
        used.add(supervision.recording_id)
        found.append(_of_supervision(supervision, _found(recording, folder) if recording else None))
    silent = [Utterance(id, None, problem=("missing transcript", "a recording without supervision")) for id in by_id if id not in used]
    return found + silent + bad


def of_cut(cut: Any, where: str, folder: Path) -> list[Utterance]:
    """Utterances of a cut, one for each supervision; relative paths start at `folder`."""
    from lhotse import MonoCut
    from lhotse.cut import MultiCut
    from lhotse.utils import fastcopy

    if isinstance(cut, Utterance):
        return [cut]
    if not isinstance(cut, (MonoCut, MultiCut)) or cut.recording is None:
        return [Utterance(getattr(cut, "id", where), None,
                          problem=("no recording", f"a {type(cut).__name__}; give cuts of recordings that are not mixed"))]
    if not cut.supervisions:
        return [Utterance(cut.id, None, problem=("missing transcript", "a cut without supervision"))]
    recording = _found(cut.recording, folder)
    return [_of_supervision(fastcopy(s, id=cut.id if len(cut.supervisions) == 1 else s.id, start=round(cut.start + s.start, 8)), recording)
            for s in cut.supervisions]


def _of_supervision(supervision: Any, recording: Any) -> Utterance:
    problem = None if recording else ("missing audio", f"no recording {supervision.recording_id!r}")
    if recording and not set(_channels(supervision)) <= set(recording.channel_ids or [0]):
        problem = ("missing channel", f"channel {supervision.channel} of a recording with {recording.channel_ids}")
    return Utterance(supervision.id, supervision.text, speaker=supervision.speaker, pair=(recording, supervision), problem=problem)


def _channels(supervision: Any) -> list[int]:
    return [supervision.channel] if isinstance(supervision.channel, int) else list(supervision.channel)


def _found(recording: Any, folder: Path) -> Any:
    """With full paths: relative ones start at the manifest's folder, else at the current one."""
    from lhotse.utils import fastcopy

    sources = [fastcopy(s, source=str(folder / s.source) if is_file(folder / s.source) else os.path.abspath(s.source))
               if s.type == "file" else s for s in recording.sources]
    return fastcopy(recording, sources=sources)
