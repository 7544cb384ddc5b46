"""The record of a decoding: everything that decided its result, beside the result; `voxkit decode --again RECORD` repeats it."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.cli import record as records

if TYPE_CHECKING:
    from voxkit.cli.search_options import Search

WHERE = "decode/SET_METHOD.json in a run"
_COMPARED = ("WER", "sub", "del", "ins", "ECE", "ms off")
_TABLE = "results.csv"
_SUFFIXES = ("json", "jsonl", "tsv", "ctm", "srt", "vtt", "TextGrid", "html")
# of a record: how and when it was made, not what decided its result
_NO_MATTER = ("checkpoint", "formats", "device", "git", "voxkit", "torch", "date", "result", "words", "texts")
_CHUNKED = ("stream", "chunk_ms", "left_ms")


def of(path: Path, args: argparse.Namespace, loaded: Any, weights: str, name: str, search: Search, options: Any, row: dict[str, Any],
       data_dir: str, calibrated: bool) -> dict[str, Any]:
    """The record, to be written to `path`, of one set by one method; `weights` is their SHA-256."""
    from voxkit.data.sets import split_path, split_share

    name, share = split_share(name)
    return {**records.checkpoint_part(loaded, path, weights), "set": name, "share": share,
            "cuts": records.stamped(split_path(data_dir, name), path), **records.search_part(search, options, path),
            "temperature": options.temperature, "words": options.words, "times": options.times, "calibrated": calibrated,
            **{key: getattr(args, key) for key in _CHUNKED},
            "formats": args.formats, "timing": dict(vars(options.timing)) if options.timing else None, "normalise": args.normalise,
            "limit": args.limit, "overrides": args.overrides, "device": args.device, **records.made_by("torch"), "result": row}


def write(path: Path, record: dict[str, Any], checkpoint: str) -> None:
    """Write it, and append its row to results.csv."""
    from voxkit.files import append_csv

    records.write(path, "decode", record)
    append_csv(path.parent / _TABLE, {"date": record["date"], **record["result"], "checkpoint": checkpoint, "step": record["step"],
                                      "git": record["git"], "record": path.name})


def compared(known: dict[str, Any], found: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of two records must be the same: figures of the result, and every text (its SHA-256; records from before have none)."""
    keys = [key for key in _COMPARED if key in known["result"]]
    then, now = ({key: record["result"].get(key) for key in keys} for record in (known, found))
    return (then | {"texts": known["texts"]}, now | {"texts": found["texts"]}) if "texts" in known else (then, now)


def set_aside(out: Path, stem: str, record: dict[str, Any]) -> None:
    """Where `out` holds the same set by the same method, but decoded with other weights, beam, models or data, its files become
    STEM.1.json and so on, and its rows of results.csv name them so: nothing is overwritten but by its like."""
    from voxkit.eval.table import rename_csv

    kept = out / f"{stem}.json"
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    decided = [key for key in record if key not in _NO_MATTER]
    if all(_content(before.get(key)) == _content(json.loads(json.dumps(record[key]))) for key in decided):
        return
    number = next(n for n in itertools.count(1) if not (out / f"{stem}.{n}.json").exists())
    for end in ("", *(f".{suffix}" for suffix in _SUFFIXES)):  # a folder holds the formats of one file an utterance
        if (out / f"{stem}{end}").exists():
            (out / f"{stem}{end}").rename(out / f"{stem}.{number}{end}")
    aside = out / f"{stem}.{number}.json"
    records.write(aside, "decode", {key: value for key, value in before.items() if key != "again"})
    rename_csv(out / _TABLE, "record", kept.name, aside.name)


def _content(value: Any) -> Any:
    """What counts of an input: its SHA-256, wherever it lies."""
    return value["sha256"] if isinstance(value, dict) and "sha256" in value else value


def arguments(record: dict[str, Any], given: argparse.Namespace) -> argparse.Namespace:
    """The options that repeat a record; device, data and out may be given anew.

    Raises:
        ValueError: checkpoint, cuts, language model or graph are not there any more, or have changed; `out` is where the record is.
    """
    cuts = cuts_of(record, given.data_dir)
    out = records.again_folder(record, given.out)
    search = records.search_arguments(record, out)
    if record["words"]:
        from voxkit.infer.calibration import write_calibration

        known = {"temperature": record["temperature"], "settings": record.get("settings")}
        fitted = {"methods": {record["result"]["method"]: known} if record["calibrated"] else {}}
        write_calibration(out, fitted | ({"timing": record["timing"]} if record["timing"] else {}))
    kept = {key: record[key] for key in ("words", "formats", "normalise", "limit")}
    kept |= {key: record[key] for key in _CHUNKED if key in record}  # records from before streaming have none
    return argparse.Namespace(**{**vars(given), **search, **kept, "sets": [cuts], "times": record.get("times", "alignment"),
                                 "calibrate": None, "latency": 0, "out": str(out)})


def cuts_of(record: dict[str, Any], data_dir: str | None) -> str:
    """The prepared set of a record, with its share, as --set and --sets take it.

    Raises:
        ValueError: the cuts are not there any more, or have changed.
    """
    known = record["cuts"]
    if data_dir:
        known = {"path": str(Path(data_dir) / Path(known["path"]).name), "sha256": known["sha256"]}
    return f"{records.unchanged('cuts', known, record['folder'], '; say with --data-dir where')}:{record['share']:g}"
