"""Audio with a table of transcripts: TSV or CSV with or without a header, JSON lines, or a text file beside each audio file."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from voxkit.data.corpora.readers import AUDIO, AudioFinder, Found, Utterance, set_of

logger = logging.getLogger(__name__)

COLUMNS = {  # what people call them, lower case
    "audio": ("audio", "path", "file", "filename", "file_name", "wav", "audio_path", "audio_file", "audio_filepath", "audio_filename",
              "wav_filename", "wav_path", "clip", "recording"),
    "text": ("text", "sentence", "transcript", "transcription", "transcripts", "normalized_text", "words", "utterance", "label"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "client_id", "user_id"),
    "id": ("id", "utt_id", "utterance_id", "utt", "segment_id"),
    "start": ("start", "start_time", "offset", "begin"),
    "end": ("end", "end_time"),
    "duration": ("duration", "dur"),
}
_USUAL_SETS = {"train", "dev", "test"}
_TABLES = (".tsv", ".csv", ".txt", ".jsonl", ".json")


def find_tables(folder: Path) -> list[Path]:
    """Files in a folder that may be tables of transcripts; text files beside audio of the same name are not."""
    audio = {p.stem for p in folder.iterdir() if p.suffix.lower() in AUDIO}
    named = {"readme", "license", "licence", "copying", "authors", "changes", "requirements", "notes"}
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in _TABLES and not p.name.startswith(".")
                  and p.stem not in audio and p.stem.lower() not in named)


def read_tables(tables: list[Path], root: Path, columns: dict[str, str]) -> Found:
    """Utterances of tables; each table named train, dev, validation, train_manifest, ... is a set of its own.

    Args:
        tables: the files; one that is no table of transcripts is left out where others are called train, dev or test.
        root: the folder that holds the audio.
        columns: names of columns that differ from the usual: {"text": "what_was_said"}.

    Raises:
        ValueError: columns that cannot be told apart; the message lists those there are.
    """
    found = Found("table of transcripts", files=list(tables))
    sets = {table: set_of(table.stem, "manifest|metadata|transcripts?|text") or table.stem for table in tables}
    named = len(tables) > 1 and not _USUAL_SETS.isdisjoint(sets.values())
    if not named:
        sets = {table: name if name in _USUAL_SETS else "" for table, name in sets.items()}
    for table in tables:
        beside = [table.parent, *(table.parent / folder for folder in ("clips", "wavs", "wav", "audio"))]
        finder = AudioFinder([*beside, root], root)
        try:
            rows = list(_rows(table, finder, columns))
        except ValueError as error:
            if not named or sets[table] in _USUAL_SETS:
                raise
            logger.warning("beside the tables of train, dev or test this is left out, for it is none: %s", error)  # Common Voice has such
            continue
        found.sets[sets[table]] += [_utterance(row, where, finder, root) for where, row in rows]
    return found


def read_beside(root: Path) -> Found:
    """A tree of audio with the transcript of each in a text file of the same name."""
    found = Found("text file beside each audio file")
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO):
        text = path.with_suffix(".txt")
        transcript = text.read_text(encoding="utf-8-sig", errors="replace") if text.is_file() else None
        found.sets[""].append(Utterance(_id(path, root), transcript, path))
        found.files += [text] if text.is_file() else []
    return found


def _utterance(row: dict[str, str], where: str, finder: AudioFinder, root: Path) -> Utterance:
    name = row.get("audio", "").strip()
    given = row.get("id", "").strip()
    if not name:
        return Utterance(given or where, None, problem=("missing audio", f"{where}: no file is named"))
    audio, problem = finder.find(name)
    utterance = Utterance(given or (_id(audio, root) if audio else name), row.get("text"), audio, row.get("speaker", "").strip() or None,
                          problem=problem)
    try:
        utterance.start = float(row.get("start") or 0)
        if row.get("end"):
            utterance.end = float(row["end"])
        elif row.get("duration") and row.get("start"):  # without a start it is only a remark about the file
            utterance.end = utterance.start + float(row["duration"])
    except ValueError as error:
        utterance.problem = ("unreadable times", f"{where}: {error}")
    if audio and (utterance.start or utterance.end is not None):
        utterance.recording_id = _id(audio, root)
        if not given:
            utterance.id = f"{utterance.recording_id}-{round(utterance.start * 1000):08d}"
    return utterance


def _id(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return "-".join(inside.with_suffix("").parts)


def _rows(table: Path, finder: AudioFinder, columns: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, {"audio": ..., "text": ..., ...}) of every row."""
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    if not any(line.strip() for line in lines):
        raise ValueError(f"{table}: nothing in it; expected a line per audio file: name <tab> text")
    if table.suffix in (".jsonl", ".json"):
        yield from _json_rows(table, lines, columns)
        return
    cells = _split(table, lines)
    numbers, header = next((n, [c.strip() for c in row]) for n, row in cells if any(c.strip() for c in row))
    known = _known(header, columns)
    if "audio" in known and "text" in known:
        first = numbers
    elif columns or not _is_audio(header[0], finder):
        raise ValueError(f"{table}: which columns hold the audio file and its text? There are: {', '.join(header)}. Name them with "
                         "--audio-column and --text-column, or start the file with a line such as: audio <tab> text")
    else:
        known, first = _without_header(table, header), 0
    for number, row in cells:
        if number > first and any(c.strip() for c in row):
            yield f"{table.name}:{number}", {kind: row[i] for kind, i in known.items() if i < len(row)}


def _json_rows(table: Path, lines: list[str], columns: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{table}:{number}: not a JSON object on a line of its own ({error})") from error
        if not isinstance(entry, dict):
            raise ValueError(f"{table}:{number}: expected an object with audio_filepath and text, found {type(entry).__name__}")
        names = list(entry)
        known = _known(names, columns)
        if "audio" not in known:
            raise ValueError(f"{table}:{number}: no key for the audio file among {', '.join(names)}; name it with --audio-column")
        yield f"{table.name}:{number}", {kind: "" if entry[names[i]] is None else str(entry[names[i]]) for kind, i in known.items()}


def _known(header: list[str], columns: dict[str, str]) -> dict[str, int]:
    """Kind of column → its position, of those the header names; what the user named comes first."""
    lower = [name.lower() for name in header]
    known = {}
    for kind, usual in COLUMNS.items():
        if columns.get(kind):
            if columns[kind] not in header:
                raise ValueError(f"no column {columns[kind]!r} for the {kind}; there are: {', '.join(header)}")
            known[kind] = header.index(columns[kind])
        elif match := [name for name in usual if name in lower]:
            known[kind] = lower.index(match[0])
    return known


def _without_header(table: Path, first: list[str]) -> dict[str, int]:
    if len(first) == 2:
        return {"audio": 0, "text": 1}
    if len(first) == 3 and Path(first[0]).suffix.lower() not in AUDIO:  # LJSpeech: name, as written, as read
        return {"audio": 0, "text": 2}
    raise ValueError(f"{table}: {len(first)} columns and no header; start the file with a line such as: audio <tab> text"
                     if len(first) > 1 else f"{table}: one column only; expected a line per audio file: name <tab> text")


def _is_audio(cell: str, finder: AudioFinder) -> bool:
    return Path(cell).suffix.lower() in AUDIO or finder.find(cell)[0] is not None


def _split(table: Path, lines: list[str]) -> list[tuple[int, list[str]]]:
    """(line number, cells) of every line."""
    first = next(line for line in lines if line.strip())
    if table.suffix == ".csv":
        delimiter = max(",;\t|", key=first.count)
        if delimiter in ",;":
            return [(i, row) for i, row in enumerate(csv.reader(lines, delimiter=delimiter), 1)]
    else:
        delimiter = "\t" if "\t" in first else "|" if "|" in first else ""
    if delimiter:
        return [(i, line.split(delimiter)) for i, line in enumerate(lines, 1)]
    return [(i, (line.split(maxsplit=1) + [""])[:2]) for i, line in enumerate(lines, 1)]
