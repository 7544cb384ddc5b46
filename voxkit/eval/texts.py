"""Reading references and hypotheses: id → text, with speaker, duration and audio where the file knows them.

Formats, told by name and first line: lhotse cuts (`.jsonl`, `.jsonl.gz`), JSON lines `{"id", "text"}`, TSV `id<TAB>text`,
Kaldi `id text`. Neither torch nor lhotse is needed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxkit.files import read_lines, write_text
from voxkit.hypothesis import Word


@dataclass
class Texts:
    """What a file says about utterances, each by id; seconds. `custom` are further fields of a cut, its supervision or a JSON record."""

    texts: dict[str, str] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    audio: dict[str, tuple[str, float, float]] = field(default_factory=dict)  # path, start, duration
    words: dict[str, list[Word]] = field(default_factory=dict)
    custom: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_texts(path: str | Path) -> Texts:
    """Read a file of texts. Half a surrogate pair, which JSON can spell and no file can hold, becomes U+FFFD.

    Raises:
        ValueError: no such file, another encoding, an id twice, a line that is no record, or nothing in it; with the line's number.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give lhotse cuts, JSON lines, or lines of id<TAB>text")
    out = Texts()
    read = _json if path.name.endswith((".jsonl", ".jsonl.gz")) else _plain
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        record = read(line, where)
        id = record["id"]
        if id in out.texts:
            raise ValueError(f"{where}: id {id} has been there before; ids must be unique")
        out.texts[id] = record["text"]
        if record.get("speaker"):
            out.speakers[id] = str(record["speaker"])
        if record.get("duration") is not None:
            out.durations[id] = record["duration"]
        if record.get("audio"):
            source, start, seconds = record["audio"]
            beside = path.parent / source  # prepared data names audio inside its folder relative to it
            out.audio[id] = (str(beside) if not Path(source).is_absolute() and beside.is_file() else source, start, seconds)
        if record.get("words"):
            out.words[id] = record["words"]
        out.custom[id] = record.get("custom") or {}
    if not out.texts:
        raise ValueError(f"{path}: the file is empty: there are no texts in it")
    return out


def write_texts(path: str | Path, texts: dict[str, str]) -> None:
    """Write `id<TAB>text` lines.

    Raises:
        ValueError: an id or a text would not come back as it is.
    """
    for id, text in texts.items():
        if "\t" in id or any(end in id + text for end in "\n\r"):
            raise ValueError(f"utterance {id!r}: an id with a tab, or a line break, cannot be written as id<TAB>text")
    write_text(path, "".join(f"{id}\t{text}\n" for id, text in texts.items()))


def without_half_pairs(text: str) -> str:
    """The text with U+FFFD in the place of each lone surrogate, so that it can be written."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _plain(line: str, where: str) -> dict[str, Any]:
    id, _, text = line.partition("\t") if "\t" in line else line.strip().partition(" ")
    if not id.strip():
        raise ValueError(f"{where}: there is no id before the text; a line is id<TAB>text")
    return {"id": id.strip(), "text": text}


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    item = _printable(item)
    if not isinstance(item, dict) or not isinstance(item.get("id"), (str, int)):
        raise ValueError(f"{where}: a record needs an 'id' and a 'text'")
    where = f"{where}: record {item['id']}"
    return _cut(item, where) if "supervisions" in item else _hypothesis(item, where)


def _hypothesis(item: dict[str, Any], where: str) -> dict[str, Any]:
    if "text" not in item:
        raise ValueError(f"{where} has no 'text'")
    custom = {key: value for key, value in item.items() if isinstance(value, (str, int, float)) and key not in ("id", "text")}
    duration = item.get("audio_duration", item.get("duration"))
    return {"id": str(item["id"]), "text": _string(item["text"], "text", where), "speaker": item.get("speaker"),
            "duration": None if duration is None else _number(duration, "duration", where),
            "words": _words(item.get("words") or [], where), "custom": custom}


def _words(found: Any, where: str) -> list[Word]:
    """Words with their times; none where some of them have no times, which scoring a text does not need."""
    if not isinstance(found, list) or not all(isinstance(w, dict) for w in found):
        raise ValueError(f"{where}: 'words' is no list of objects with word, start and end")
    if any(w.get(key) is None for w in found for key in ("word", "start", "end")):
        return []
    return [Word(_string(w["word"], "word", where), _number(w["start"], "start", where), _number(w["end"], "end", where),
                 _number(1.0 if w.get("confidence") is None else w["confidence"], "confidence", where)) for w in found]


def _cut(item: dict[str, Any], where: str) -> dict[str, Any]:
    supervisions = item["supervisions"]
    if not isinstance(supervisions, list) or len(supervisions) != 1 or not isinstance(supervisions[0], dict):
        count = len(supervisions) if isinstance(supervisions, list) else "no list of"
        raise ValueError(f"{where} has {count} supervisions; scoring wants one (CutSet.trim_to_supervisions)")
    spoken, start = supervisions[0], _number(item.get("start", 0.0), "start", where)
    seconds = None if item.get("duration") is None else _number(item["duration"], "duration", where)
    try:
        sources = (item.get("recording") or {}).get("sources") or []
        a_file = bool(sources) and sources[0].get("type") == "file" and seconds is not None
        audio = (str(sources[0]["source"]), start, seconds) if a_file else None
        known = (spoken.get("alignment") or {}).get("word", [])
        words = [Word(symbol, at - start, at - start + length, 1.0) for symbol, at, length, *_ in known if symbol.strip()]
        custom = {**{key: spoken[key] for key in ("language", "gender") if spoken.get(key)}, **(item.get("custom") or {}),
                  **(spoken.get("custom") or {})}
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{where}: not a cut as lhotse writes it ({error})") from error
    text = "" if spoken.get("text") is None else _string(spoken["text"], "text", where)
    return {"id": str(item["id"]), "text": text, "speaker": spoken.get("speaker"), "duration": seconds, "audio": audio, "words": words,
            "custom": custom}


def _string(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: its '{what}' is {json.dumps(value)[:40]}, and must be a string")
    return value


def _number(value: Any, what: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{where}: its '{what}' is {json.dumps(value)[:40]}, and must be a number")
    return float(value)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else without_half_pairs(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value
