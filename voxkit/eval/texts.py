"""Reading references and hypotheses: id → text, with speaker, duration and audio where the file knows them.

Formats, told by name and first line: lhotse cuts (`.jsonl`, `.jsonl.gz`), JSON lines `{"id", "text"}`, TSV `id<TAB>text`,
Kaldi `id text`. Neither torch nor lhotse is needed.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

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
    """Read a file of texts.

    Raises:
        ValueError: no such file, an id twice, a line that is no record, or nothing in it; with the line's number.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give lhotse cuts, JSON lines, or lines of id<TAB>text")
    out = Texts()
    json_lines = path.name.endswith((".jsonl", ".jsonl.gz"))
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        record = _json(line, where) if json_lines else _plain(line, where)
        if record["id"] in out.texts:
            raise ValueError(f"{where}: id {record['id']} has been there before; ids must be unique")
        id = record["id"]
        out.texts[id] = record["text"]
        if record.get("speaker"):
            out.speakers[id] = str(record["speaker"])
        if record.get("duration") is not None:
            out.durations[id] = float(record["duration"])
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
    """Write `id<TAB>text` lines."""
    for id in texts:
        if "\t" in id or "\n" in id + texts[id]:
            raise ValueError(f"utterance {id!r}: an id with a tab, or a line break, cannot be written as id<TAB>text")
    Path(path).write_text("".join(f"{id}\t{text}\n" for id, text in texts.items()), encoding="utf-8")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _plain(line: str, where: str) -> dict[str, Any]:
    id, _, text = line.partition("\t") if "\t" in line else line.strip().partition(" ")
    if not id.strip():
        raise ValueError(f"{where}: there is no id before the text; a line is id<TAB>text")
    return {"id": id.strip(), "text": text}


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    if not isinstance(item, dict) or "id" not in item:
        raise ValueError(f"{where}: a record needs an 'id' and a 'text'")
    if "supervisions" not in item:
        if "text" not in item:
            raise ValueError(f"{where}: record {item['id']} has no 'text'")
        words = [Word(w["word"], w["start"], w["end"], w.get("confidence", 1.0)) for w in item.get("words") or []]
        custom = {key: value for key, value in item.items() if isinstance(value, (str, int, float)) and key not in ("id", "text")}
        return {**item, "id": str(item["id"]), "duration": item.get("audio_duration", item.get("duration")), "audio": None,
                "words": words, "custom": custom}
    supervisions = item["supervisions"]
    if len(supervisions) != 1:
        raise ValueError(f"{where}: cut {item['id']} has {len(supervisions)} supervisions; scoring wants one (CutSet.trim_to_supervisions)")
    sources = (item.get("recording") or {}).get("sources") or []
    audio = None
    if sources and sources[0].get("type") == "file":
        audio = (sources[0]["source"], float(item.get("start", 0.0)), float(item["duration"]))
    spoken, start = supervisions[0], float(item.get("start", 0.0))
    known = (spoken.get("alignment") or {}).get("word", [])
    words = [Word(symbol, at - start, at - start + seconds, 1.0) for symbol, at, seconds, *_ in known if symbol.strip()]
    custom = {**{key: spoken[key] for key in ("language", "gender") if spoken.get(key)}, **(item.get("custom") or {}),
              **(spoken.get("custom") or {})}
    return {"id": item["id"], "text": spoken.get("text") or "", "speaker": spoken.get("speaker"),
            "duration": item.get("duration"), "audio": audio, "words": words, "custom": custom}
