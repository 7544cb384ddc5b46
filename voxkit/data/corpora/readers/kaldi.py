"""Kaldi data directories: wav.scp, text, and where they are there utt2spk and segments (kaldi-asr.org/doc/data_prep.html)."""

from __future__ import annotations

import math
import re
from pathlib import Path

from voxkit.data.corpora.readers import Listing, Utterance, is_file, usual_name
from voxkit.files import read_lines

_BLANKS = re.compile(r"[ \t]+")  # Kaldi's; U+2028, no-break spaces and the like belong to the words
_CHANNELS = {"A": 0, "B": 1}


def find_kaldi(root: Path) -> list[Path]:
    """The folder itself, or those right below it, that hold a wav.scp."""
    return [root] if (root / "wav.scp").is_file() else sorted(p.parent for p in root.glob("*/wav.scp"))


def read_kaldi(folders: list[Path]) -> Listing:
    """Utterances of Kaldi directories; with several, each is a set of its own.

    Raises:
        ValueError: no text beside wav.scp, a wav.scp with commands, a file in an encoding that it does not name.
    """
    found = Listing("Kaldi directory")
    for folder in folders:
        name = usual_name(folder.name)
        if len(folders) == 1 and name not in ("train", "dev", "test"):
            name = ""
        found.sets[name] += _read(folder, found)
    return found


class _Table:
    """A file of `<id> <rest>` lines: the rest by id, and the ids that stand there twice with different ones."""

    def __init__(self, path: Path, found: Listing) -> None:
        self.path = path
        self.rows: dict[str, str] = {}
        self.twice: dict[str, str] = {}
        if not path.is_file():
            return
        found.files.append(path)
        lines: dict[str, int] = {}
        for number, line in enumerate(read_lines(path), 1):
            id, *rest = _BLANKS.split(line.strip(" \t"), maxsplit=1)
            if not id:
                continue
            value = rest[0] if rest else ""
            if self.rows.setdefault(id, value) != value:
                self.twice[id] = f"{path}: lines {lines[id]} and {number} differ"
            lines.setdefault(id, number)


def _read(folder: Path, found: Listing) -> list[Utterance]:
    if not (folder / "text").is_file():
        raise ValueError(f"{folder}: a wav.scp but no `text` with the transcripts: <utterance> <words> on each line")
    scp, texts, speakers, segments = (_Table(folder / name, found) for name in ("wav.scp", "text", "utt2spk", "segments"))
    recordings = {id: _audio(folder, id, rest) for id, rest in scp.rows.items()}
    utterances = []
    if segments.path.is_file():
        for id, rest in segments.rows.items():
            utterances.append(_segment(Utterance(id, texts.rows.get(id), speaker=speakers.rows.get(id)), rest, recordings, segments.path))
        used = {u.recording_id for u in utterances}
        utterances += [Utterance(id, None, problem=("no segment", f"in {scp.path}, and {segments.path} names no part of it"))
                       for id in recordings if id not in used]
    else:
        utterances += [Utterance(id, texts.rows.get(id), audio, speakers.rows.get(id)) for id, audio in recordings.items()]
    named = {u.id for u in utterances}
    utterances += [Utterance(id, text, problem=("missing audio", f"in {texts.path} only")) for id, text in texts.rows.items()
                   if id not in named]
    for utterance in utterances:
        for table, id in ((texts, utterance.id), (segments, utterance.id), (speakers, utterance.id),
                          (scp, utterance.recording_id or utterance.id)):
            if id in table.twice:
                utterance.problem = ("duplicate id", table.twice[id])
    return utterances


def _segment(utterance: Utterance, rest: str, recordings: dict[str, Path], path: Path) -> Utterance:
    """An utterance with its place: `<recording> <start> <end>`, perhaps a channel (0, 1, A or B)."""
    try:
        name, start, end, *channel = rest.split()
        utterance.recording_id, utterance.audio = name, recordings.get(name)
        utterance.start, stop = float(start), float(end)
        utterance.end = stop if stop >= 0 else None
        if not (math.isfinite(utterance.start) and math.isfinite(stop)) or len(channel) > 1:
            raise ValueError
        if channel:
            utterance.channel = _CHANNELS[channel[0]] if channel[0] in _CHANNELS else int(channel[0])
    except ValueError:
        utterance.problem = ("unreadable times", f"{path}: {utterance.id} {rest}")
        return utterance
    if utterance.audio is None:
        utterance.problem = ("missing audio", f"segments names recording {name!r}, which wav.scp lacks")
    return utterance


def _audio(folder: Path, id: str, rest: str) -> Path:
    if rest.startswith("|") or rest.endswith("|"):
        raise ValueError(f"{folder / 'wav.scp'}: recording {id} is the output of a command ({rest[:80]}), and voxkit runs no commands "
                         "from data; write the audio to files first (Kaldi's wav-copy does) and name those")
    path = Path(rest).expanduser() if rest.startswith("~/") else Path(rest)
    if path.is_absolute():
        return path
    # Kaldi's own paths start where its run.sh stood: the directory above data/<set>, as a rule.
    return next((p / path for p in (folder, *folder.parents[:3], Path.cwd()) if is_file(p / path)), folder / path)
