"""Hours of a team's own media → labeled cuts: speech by voice activity, labels by two recognizers, filters, and a page to listen to.

Every segment is labeled once: labels.jsonl grows line by line, and a run that was interrupted goes on behind its last whole line. The
filters are applied at the end to what stands there, so that other thresholds need no recognizer.
"""

from __future__ import annotations

import html
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from voxkit.audio.media import read_media
from voxkit.data.manifests import cuts_path, read_json, save_cuts
from voxkit.data.validate import file_cut
from voxkit.eval.agreement import Filter, Label, Verdict, judge, thresholds
from voxkit.eval.texts import read_texts
from voxkit.files import file_name, sha256, write_json, write_text
from voxkit.rate import RATE
from voxkit.runtime.segments import SegmentOptions, speech_segments

Say = Callable[[str], None]


@dataclass(frozen=True)
class PseudoLabelJob:
    """Attributes:
    media: files; out: folder.
    recognizers: two names (`voxkit.infer.labelers`); the first one's text is the label.
    method: search of voxkit's own models; pack: given to them as phrases (by text rule `text`) and to others as prompt.
    whole: a file is one segment, without voice activity; segments: otherwise, how speech is cut.
    filter: what is kept; split: name of the set; references: id<TAB>text by the files' stems, to say how wrong the labels are (with whole).
    """

    media: tuple[str, ...]
    out: str
    recognizers: tuple[str, ...]
    method: str = "greedy"
    pack: str | None = None
    text: str = "none"
    whole: bool = False
    segments: SegmentOptions = field(default_factory=SegmentOptions)
    filter: Filter = field(default_factory=Filter)
    split: str = "pseudo"
    references: str | None = None
    license: str = ""
    device: str = "cpu"


@dataclass(frozen=True)
class Segment:
    """A labeled piece of a file, seconds from its beginning; the sound lies in `audio`."""

    id: str
    media: str
    start: float
    seconds: float
    audio: str
    labels: tuple[Label, Label]


@dataclass
class PseudoLabels:
    """kept, left_out: segments with their verdicts; failed: files that could not be read, why; table: what other thresholds would keep."""

    kept: list[tuple[Segment, Verdict]] = field(default_factory=list)
    left_out: list[tuple[Segment, Verdict]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    table: list[dict[str, object]] = field(default_factory=list)
    cuts: Path | None = None
    page: Path | None = None

    @property
    def reasons(self) -> dict[str, int]:
        """Reason → how many were left out for it, the most frequent first."""
        return dict(Counter(verdict.reason for _, verdict in self.left_out).most_common())


def pseudo_label(job: PseudoLabelJob, say: Say = lambda message: None, labelers: Sequence[Any] | None = None,
                 probabilities: Callable[[np.ndarray], np.ndarray] | None = None) -> PseudoLabels:
    """Label what is not labeled yet, filter all of it, write cuts_SPLIT.jsonl.gz, labels.jsonl and index.html.

    Args:
        labelers: in the place of those that the job names; probabilities: audio [S] → of speech every 32 ms, in the place of silero's.

    Raises:
        ValueError: not two recognizers, options that cannot be, a folder that was made with others, no file that can be read.
    """
    if problems := [*job.filter.problems(), *job.segments.problems()]:
        raise ValueError("; ".join(problems))
    if len(job.recognizers) != 2 or job.recognizers[0] == job.recognizers[1]:
        raise ValueError("--recognizers: two different ones are needed, for their agreement is what is believed")
    if job.references and not job.whole:
        raise ValueError("--ref: references are of whole files; add --whole")
    out = Path(job.out)
    _refuse_others(job, out)
    done, failed = _read(out / "labels.jsonl"), {}
    opened: list[Any] = list(labelers or [])
    with _appending(out / "labels.jsonl") as file:
        for path in job.media:
            if _stamp(path) in done:
                continue
            try:
                pieces = list(_pieces(job, path, probabilities))
            except ValueError as error:
                failed[path] = str(error)
                say(f"left out: {error}")
                continue
            opened = opened or _open(job)
            rows = [_label(out, path, start, audio, opened) for start, audio in pieces]
            line = {"media": path, "stamp": _stamp(path), "segments": rows}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            done[line["stamp"]] = line
            say(f"{path}: {len(rows)} segments, {sum(row['seconds'] for row in rows):.0f} s of speech")
    wanted = [done[stamp] for path in job.media if (stamp := _stamp(path)) in done]
    if not wanted:
        raise ValueError("no file could be labeled: " + "; ".join(failed.values()))
    return _finish(job, out, [_segment(line["media"], row) for line in wanted for row in line["segments"]], failed)


def _open(job: PseudoLabelJob) -> list[Any]:
    from voxkit.infer.labelers import open_labeler

    prompt, phrases = "", []
    if job.pack:
        from voxkit.text.normalize import normalize
        from voxkit.text.pack import check_spelling, load_pack
        from voxkit.text.pack_lists import prompt as prompt_of

        pack = load_pack(job.pack)
        check_spelling(pack, rule=job.text)
        prompt, phrases = prompt_of(pack), list(dict.fromkeys(normalize(job.text, phrase) for phrase in pack.phrases()))
    return [open_labeler(name, method=job.method, prompt=prompt, phrases=phrases, language=job.filter.language, device=job.device)
            for name in job.recognizers]


def _pieces(job: PseudoLabelJob, path: str, probabilities: Callable[[np.ndarray], np.ndarray] | None) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds from the beginning, audio [S]) of each piece in which somebody speaks."""
    audio = read_media(path)
    if job.whole:
        yield 0.0, audio
        return
    if probabilities is None:
        from voxkit.runtime.vad import Vad

        probabilities = Vad().probabilities
    for first, last in speech_segments(probabilities(audio), len(audio), job.segments):
        yield first / RATE, audio[first:last]


def _label(out: Path, path: str, start: float, audio: np.ndarray, labelers: Sequence[Any]) -> dict[str, Any]:
    from voxkit.audio.io import write_audio

    id = file_name(f"{Path(path).stem}-{_stamp(path)[:8]}-{round(1000 * start):08d}")
    sound = write_audio(out / "audio" / f"{id}.flac", audio)
    labels = [asdict(labeler.label(audio)) for labeler in labelers]
    return {"id": id, "start": round(start, 3), "seconds": len(audio) / RATE, "audio": str(sound.relative_to(out)), "labels": labels}


def _segment(media: str, row: dict[str, Any]) -> Segment:
    first, second = (Label(**label) for label in row["labels"])
    return Segment(row["id"], media, row["start"], row["seconds"], row["audio"], (first, second))


def _finish(job: PseudoLabelJob, out: Path, segments: list[Segment], failed: dict[str, str]) -> PseudoLabels:
    found = PseudoLabels(failed=failed)
    for segment in segments:
        verdict = judge(*segment.labels, segment.seconds, job.filter)
        (found.kept if verdict.kept else found.left_out).append((segment, verdict))
    references = read_texts(job.references).texts if job.references else {}
    found.table = thresholds([(*s.labels, s.seconds, references.get(Path(s.media).stem)) for s in segments], job.filter)
    found.cuts = cuts_path(out, job.split)
    save_cuts((_cut(job, out, segment, verdict) for segment, verdict in found.kept), found.cuts)
    found.page = out / "index.html"
    write_text(found.page, _page(found))
    write_json(out / "licenses.json", {job.split: {"source": list(job.media), "license": job.license or "not stated"}})
    return found


def _cut(job: PseudoLabelJob, out: Path, segment: Segment, verdict: Verdict) -> Any:
    cut = file_cut(segment.id, str((out / segment.audio).resolve()), round(segment.seconds * RATE), segment.labels[0].text,
                   language=segment.labels[0].language or None)
    cut.supervisions[0].custom = {**verdict.scores, "second": segment.labels[1].text, "media": segment.media, "start": segment.start,
                                  **({"license": job.license} if job.license else {})}
    return cut


def _page(found: PseudoLabels) -> str:
    """What was kept and what was not, with the sound, the least sure first."""
    rows = []
    for segment, verdict in sorted([*found.left_out, *found.kept], key=lambda item: item[1].scores["agreement"]):
        cells = [verdict.reason or "kept", f"{verdict.scores['agreement']:.2f}", f"{verdict.scores['confidence']:.2f}",
                 segment.labels[0].text, segment.labels[1].text, f"{Path(segment.media).name} {segment.start:.1f} s"]
        sound = f'<audio controls preload="none" src="{html.escape(segment.audio, quote=True)}"></audio>'
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + f"<td>{sound}</td></tr>")
    head = "".join(f"<th>{name}</th>" for name in ("", "agreement", "confidence", "label", "second", "from", "sound"))
    return ('<!doctype html><meta charset="utf-8"><title>Pseudo-labels</title><style>body{font:14px sans-serif}td{padding:2px 8px}</style>'
            f"<p>{len(found.kept)} kept, {len(found.left_out)} left out</p><table><tr>{head}</tr>\n" + "\n".join(rows) + "</table>\n")


def _refuse_others(job: PseudoLabelJob, out: Path) -> None:
    """A folder's labels are those of one pair of recognizers, told the same."""
    pack = None if not job.pack else sha256(job.pack) if Path(job.pack).is_file() else job.pack
    mine = {"recognizers": list(job.recognizers), "method": job.method, "pack": pack, "text": job.text if pack else "", "whole": job.whole,
            "segments": None if job.whole else asdict(job.segments)}
    known = read_json(out / "pseudo_label.json")
    if known and known != mine:
        changed = ", ".join(key for key in mine if known.get(key) != mine[key])
        raise ValueError(f"{out}: its labels were made with another {changed}; give another --out, or the same options")
    write_json(out / "pseudo_label.json", mine)


def _stamp(path: str) -> str:
    """What tells a file from its next version."""
    place = Path(path)
    if not place.is_file():
        return ""
    import hashlib

    stat = place.stat()
    return hashlib.sha256(f"{place.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Stamp of a file → its whole line; half a line at the end, of a run that was killed, is cut off."""
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    whole = raw[:raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        write_text(path, whole.decode())
    lines = [json.loads(line) for line in whole.decode().split("\n") if line]
    return {line["stamp"]: line for line in lines}


def _appending(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")
