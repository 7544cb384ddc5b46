"""lhotse manifests: cuts, or recordings with supervisions, in JSON lines, gzipped or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from voxkit.data.corpora.readers import Found, Utterance, set_of


def find_manifests(root: Path) -> list[Path]:
    """Files of a folder that are called cuts, recordings or supervisions."""
    return sorted(p for p in root.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz"))
                  and any(kind in p.name for kind in ("cuts", "recordings", "supervisions")))


def read_manifests(files: list[Path]) -> Found:
    """Utterances of manifests, one for each supervision; the names of the files tell the sets apart.

    Raises:
        ValueError: files that lhotse cannot read, recordings without supervisions, or a file that names no set beside some that do.
    """
    found = Found("lhotse manifests", files=list(files))
    cuts = [p for p in files if "cuts" in p.name]
    for path in cuts:
        found.sets[_set(path, "cuts")] += [u for cut in _load(path, "CutSet") for u in _of_cut(cut, path.parent)]
    if not cuts:
        recordings = {_set(p, "recordings"): p for p in files if "recordings" in p.name}
        supervisions = {_set(p, "supervisions"): p for p in files if "supervisions" in p.name}
        if alone := recordings.keys() ^ supervisions.keys():
            raise ValueError(f"{files[0].parent}: recordings and supervisions come in pairs; alone are those of: "
                             + ", ".join(n or "all" for n in sorted(alone)))
        for name, path in recordings.items():
            by_id = {r.id: _found(r, path.parent) for r in _load(path, "RecordingSet")}
            found.sets[name] += [_of_supervision(s, by_id.get(s.recording_id)) for s in _load(supervisions[name], "SupervisionSet")]
    if "" in found.sets and len(found.sets) > 1:
        raise ValueError(f"{files[0].parent}: a manifest whose name says no set lies beside those of "
                         f"{', '.join(sorted(filter(None, found.sets)))}: are its utterances theirs? Take it away, or call it ..._train")
    if len(found.sets) == 1 and not {"train", "dev", "test"} & found.sets.keys():
        found.sets = {"": next(iter(found.sets.values()))}
    return found


def _set(path: Path, kind: str) -> str:
    return set_of(path.name.split(".json")[0], kind)


def _load(path: Path, kind: str) -> list[Any]:
    import lhotse

    try:
        return list(getattr(lhotse, kind).from_file(path))
    except Exception as error:  # json, gzip and lhotse each have their own
        raise ValueError(f"{path}: lhotse cannot read it as a {kind}: {str(error).splitlines()[0] if str(error) else error!r}") from error


def _of_cut(cut: Any, folder: Path) -> list[Utterance]:
    from lhotse import MonoCut
    from lhotse.cut import MultiCut
    from lhotse.utils import fastcopy

    if not isinstance(cut, (MonoCut, MultiCut)) or cut.recording is None:
        return [Utterance(cut.id, None, problem=("no recording", f"a {type(cut).__name__}; give cuts of recordings that are not mixed"))]
    if not cut.supervisions:
        return [Utterance(cut.id, None, problem=("missing transcript", "a cut without supervision"))]
    recording = _found(cut.recording, folder)
    return [_of_supervision(fastcopy(s, id=cut.id if len(cut.supervisions) == 1 else s.id, start=round(cut.start + s.start, 8)), recording)
            for s in cut.supervisions]


def _of_supervision(supervision: Any, recording: Any) -> Utterance:
    problem = None if recording else ("missing audio", f"no recording {supervision.recording_id!r}")
    return Utterance(supervision.id, supervision.text, speaker=supervision.speaker, pair=(recording, supervision), problem=problem)


def _found(recording: Any, folder: Path) -> Any:
    """With full paths: relative ones start at the manifest's folder, else at the current one."""
    from lhotse.utils import fastcopy

    sources = [fastcopy(s, source=str(folder / s.source) if (folder / s.source).is_file() else os.path.abspath(s.source))
               if s.type == "file" else s for s in recording.sources]
    return fastcopy(recording, sources=sources)
