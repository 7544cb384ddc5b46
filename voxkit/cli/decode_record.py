"""The record of a decoding: everything that decided its result, beside the result; `voxkit decode --again RECORD` repeats it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit.cli import record as records

if TYPE_CHECKING:
    from voxkit.cli.search_options import Search

WHERE = "decode/SET_METHOD.json in a run"
COMPARED = ("WER", "sub", "del", "ins", "ECE", "ms off")
_CHUNKED = ("stream", "chunk_ms", "left_ms")


def write(path: Path, args: argparse.Namespace, loaded: Any, weights: str, name: str, search: Search, options: Any, row: dict[str, Any],
          data_dir: str, calibrated: bool) -> None:
    """Write the record of one set by one method, and append its row to results.csv; `weights` is their SHA-256."""
    from voxkit.eval.table import append_csv
    from voxkit.training import split_path, split_share

    name, share = split_share(name)
    made = records.made_by("torch")
    records.write(path, "decode", {
        **records.checkpoint_part(loaded, path, weights), "set": name, "share": share,
        "cuts": records.stamped(split_path(data_dir, name), path), **records.search_part(search, options, path),
        "temperature": options.temperature, "words": options.words, "times": options.times, "calibrated": calibrated,
        **{key: getattr(args, key) for key in _CHUNKED},
        "formats": args.formats, "timing": dict(vars(options.timing)) if options.timing else None, "normalise": args.normalise,
        "limit": args.limit, "overrides": args.overrides, "device": args.device, **made, "result": row})
    append_csv(path.parent / "results.csv", {"date": made["date"], **row, "checkpoint": str(loaded.path), "step": loaded.meta.get("step"),
                                             "git": made["git"], "record": path.name})


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
