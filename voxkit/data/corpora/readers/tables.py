"""Audio with a table of transcripts: TSV or CSV with or without a header, JSON lines, or a text file beside each audio file."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

from voxkit.data.corpora.readers import AUDIO, AudioFinder, Listing, Utterance, path_ids, set_of
from voxkit.data.corpora.readers.cells import split_rows
from voxkit.files import read_lines, read_text

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
    """Files in a folder that may be tables of transcripts; text files beside audio of the same name are not, nor other ones among them."""
    audio = {p.stem for p in folder.iterdir() if p.suffix.lower() in AUDIO}
    if any(p.suffix.lower() == ".txt" and p.stem in audio for p in folder.iterdir()):
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in (".tsv", ".csv") and not p.name.startswith("."))
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in _TABLES and not p.name.startswith(".")
                  and p.stem not in audio and not _is_notice(p))


def _is_notice(path: Path) -> bool:
    return path.stem.lower() in ("readme", "license", "license", "copying", "authors", "changes", "requirements", "notes")


def read_tables(tables: list[Path], root: Path, columns: dict[str, str]) -> Listing:
    """Utterances of tables; each table named train, dev, validation, train_manifest, ... is a set of its own.

    Args:
        tables: the files; one that is no table of transcripts is left out where others are called train, dev or test.
        root: the folder that holds the audio.
        columns: names of columns that differ from the usual: {"text": "what_was_said"}.

    Raises:
        ValueError: columns that cannot be told apart; the message lists those there are. An encoding that the file does not name.
    """
    found = Listing("table of transcripts", files=list(tables))
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
        found.sets[sets[table]] += [_utterance(row, where, finder, problem) for where, row, problem in rows]
    _name(found, root)
    return found


def read_beside(root: Path) -> Listing:
    """A tree of audio with the transcript of each in a text file of the same name."""
    found = Listing("text file beside each audio file")
    audio = sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO)
    for path in audio:
        text = path.with_suffix(".txt")
        transcript, problem = None, None
        if text.is_file():
            found.files.append(text)
            try:
                transcript = read_text(text)
            except ValueError as error:
                problem = ("unreadable transcript", str(error))
        found.sets[""].append(Utterance("", transcript, path, problem=problem))
    _name(found, root)
    heard = {path.with_suffix("") for path in audio}
    if found.files:
        found.sets[""] += [Utterance(path.relative_to(root).as_posix(), None, problem=("missing audio", f"{path}: a text without audio"))
                           for path in sorted(root.rglob("*.txt")) if path.with_suffix("") not in heard and not _is_notice(path)]
    return found


def _name(found: Listing, root: Path) -> None:
    """Give those an id that have none: by their file and, where it is cut up, their start."""
    placed = [(u, u.audio) for of_set in found.sets.values() for u in of_set if u.audio is not None]
    ids = path_ids((audio for _, audio in placed), root)
    for u, audio in placed:
        if u.start or u.end is not None:
            u.recording_id = ids[audio]
            u.id = u.id or f"{u.recording_id}-{round(u.start * 1000):08d}"
        u.id = u.id or ids[audio]


def _utterance(row: dict[str, str], where: str, finder: AudioFinder, problem: tuple[str, str] | None) -> Utterance:
    """An utterance of a row; without an id where the row names none and its audio is there."""
    name, given = row.get("audio", "").strip(), row.get("id", "").strip()
    if problem:
        return Utterance(given or name or where, None, problem=problem)
    if not name:
        return Utterance(given or where, None, problem=("missing audio", f"{where}: no file is named"))
    audio, problem = finder.find(name)
    utterance = Utterance(given or ("" if audio else name), row.get("text"), audio, row.get("speaker", "").strip() or None, problem=problem)
    try:
        start = float(row.get("start") or 0)
        end = None
        if row.get("end"):
            end = float(row["end"])
        elif row.get("duration") and row.get("start"):  # without a start it is only a remark about the file
            end = start + float(row["duration"])
        if not (0 <= start < math.inf) or not math.isfinite(end or 0):
            raise ValueError(f"from {start} to {end} s")
        utterance.start, utterance.end = start, end
    except ValueError as error:
        utterance.problem = ("unreadable times", f"{where}: {error}")
    return utterance


def _rows(table: Path, finder: AudioFinder, columns: dict[str, str]) -> Iterator[tuple[str, dict[str, str], tuple[str, str] | None]]:
    """(place, {"audio": ..., "text": ..., ...}, problem) of every row."""
    lines = read_lines(table)
    if not any(line.strip() for line in lines):
        raise ValueError(f"{table}: nothing in it; expected a line per audio file: name <tab> text")
    if table.suffix in (".jsonl", ".json"):
        yield from ((where, row, None) for where, row in _json_rows(table, lines, columns))
        return
    delimiter, quoted = _delimiter(table, lines)
    known: dict[str, int] = {}
    width = 0

    def is_row(cells: list[str]) -> bool:
        """Whether a line inside a quoted cell is rather a row of its own."""
        place = known.get("audio", 0)
        return len(cells) >= max(width, 2) and place < len(cells) and _is_audio(cells[place].strip(' "'), finder)

    for row in split_rows(lines, delimiter, quoted, is_row):
        if not any(cell.strip() for cell in row.cells):
            continue
        if not known:
            width, header = len(row.cells), [cell.strip() for cell in row.cells]
            known = _known(header, columns)
            if "audio" in known and "text" in known:
                continue
            if columns or not _is_audio(header[0], finder):
                raise ValueError(f"{table}: which columns hold the audio file and its text? There are: {', '.join(header)}. Name them with "
                                 "--audio-column and --text-column, or start the file with a line such as: audio <tab> text")
            known = _without_header(table, header)
        where = f"{table.name}:{row.line}"
        problem = ("unreadable row", f"{where}: {row.problem}") if row.problem else None
        if not problem and len(row.cells) > width and any(cell.strip() for cell in row.cells[width:]):
            problem = ("unreadable row", f"{where}: {len(row.cells)} cells where there should be {width}; does the text hold a "
                       f"{delimiter!r} without quotes?")
        yield where, {kind: row.cells[i] for kind, i in known.items() if i < len(row.cells)}, problem


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


def _delimiter(table: Path, lines: list[str]) -> tuple[str, bool]:
    """What parts the cells, and whether quoted ones may go on over lines."""
    first = next(line for line in lines if line.strip())
    if table.suffix == ".csv":
        delimiter = max(",;\t|", key=first.count)
        return delimiter, delimiter in ",;"
    return "\t" if "\t" in first else "|" if "|" in first else "", False
