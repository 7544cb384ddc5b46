"""The record of a decoding: everything that decided its result, beside the result; `voxkit decode --again RECORD` repeats it."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit import config as configuration
from voxkit.cli.fingerprint import sha256, stamp

if TYPE_CHECKING:
    from voxkit.cli.search_options import Search

_KEPT = ("beam", "ctc_weight", "lm_weight", "rescore_weight", "length_bonus", "coverage", "length_power", "temperature")
_CHUNKED = ("stream", "chunk_ms", "left_ms")


def write(path: Path, args: argparse.Namespace, loaded: Any, weights: str, name: str, search: Search, options: Any, row: dict[str, Any],
          data_dir: str, calibrated: bool) -> None:
    """Write the record of one set by one method, and append its row to results.csv; `weights` is their SHA-256.

    Paths inside the run are kept relative to the record, so that a run can be moved; others as absolute ones, with a SHA-256.
    """
    from voxkit import __version__
    from voxkit.cli.search_options import LANGUAGE_MODELS
    from voxkit.eval.table import append_csv
    from voxkit.train.run_dir import git_hash
    from voxkit.training import split_path, split_share

    method, phrases = options.method, search.phrases_of(options.method)
    name, share = split_share(name)
    cuts = split_path(data_dir, name).resolve()
    record = {
        "again": f"voxkit decode --again {path}", "checkpoint": os.path.relpath(loaded.path.resolve(), path.parent.resolve()),
        "weights": weights, "step": loaded.meta.get("step"),
        "tokenizer": loaded.tokenizer.fingerprint(), "set": name, "share": share, "cuts": stamp(cuts),
        "method": method, **{key: getattr(options, key) for key in _KEPT}, "words": options.words, "times": options.times,
        "calibrated": calibrated, **{key: getattr(args, key) for key in _CHUNKED},
        "settings": search.settings(method),
        "formats": args.formats,
        **{name: search.stamps[name] if getattr(options, name) is not None else None for name in LANGUAGE_MODELS},
        "graph": search.stamps["graph"] if args.graph and method.startswith("k2") else None, "phrases": phrases,
        "timing": dict(vars(options.timing)) if options.timing else None, "normalise": args.normalise, "limit": args.limit,
        "overrides": args.overrides, "device": args.device, "git": git_hash(), "voxkit": __version__, "torch": _torch(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"), "result": row,
    }
    configuration.write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    append_csv(path.parent / "results.csv", {"date": record["date"], **row, "checkpoint": str(loaded.path), "step": record["step"],
                                             "git": record["git"], "record": path.name})


def read(path: str) -> dict[str, Any]:
    """A record.

    Raises:
        ValueError: it is none.
    """
    file = Path(path)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--again {path}: not the record of a decoding ({error}); they are decode/SET_METHOD.json in a run") from error
    if not isinstance(record, dict) or "again" not in record or "checkpoint" not in record:
        raise ValueError(f"--again {path}: not the record of a decoding; they are decode/SET_METHOD.json in a run")
    return {**record, "checkpoint": str((file.parent / record["checkpoint"]).resolve()), "folder": str(file.parent)}


def arguments(record: dict[str, Any], given: argparse.Namespace) -> argparse.Namespace:
    """The options that repeat a record; device, data and out may be given anew.

    Raises:
        ValueError: weights, cuts, language model or graph are not there any more, or have changed; `out` is where the record is.
    """
    weights = Path(record["checkpoint"]) / "model.safetensors"
    if "weights" in record:
        _check("weights", weights, record["weights"])
    cuts = Path(record["cuts"]["path"])
    if given.data_dir:
        cuts = Path(given.data_dir) / cuts.name
    for what, path in (("cuts", cuts), ("lm", None), ("rescore_lm", None), ("graph", None)):
        if record.get(what):
            _check(what, path or Path(record[what]["path"]), record[what]["sha256"])
    out = Path(given.out or Path(record["folder"]) / "again")
    if out.resolve() == Path(record["folder"]).resolve():
        raise ValueError(f"--out {out}: the record and what was fitted lie there and would be overwritten; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    phrases = None
    if record["phrases"]:
        phrases = str(out / "phrases.tsv")
        configuration.write_text(phrases, "".join(f"{phrase}\t{boost!r}\n" for phrase, boost in record["phrases"].items()))
    if record["words"]:
        from voxkit.infer.calibration import write_calibration

        known = {"temperature": record["temperature"], "settings": record.get("settings")}
        fitted = {"methods": {record["result"]["method"]: known} if record["calibrated"] else {}}
        write_calibration(out, fitted | ({"timing": record["timing"]} if record["timing"] else {}))
    kept = {key: record.get(key) for key in (*_KEPT[:-1], *_CHUNKED, "words", "formats", "normalise", "limit", "overrides", "checkpoint")}
    return argparse.Namespace(**{**vars(given), **kept, "sets": [f"{cuts}:{record['share']:g}"], "methods": [record["method"]],
                                 "times": record.get("times", "alignment"),
                                 "phrases": phrases,
                                 **{name: (record.get(name) or {}).get("path") for name in ("lm", "rescore_lm", "graph")},
                                 "calibrate": None, "latency": 0, "out": str(out), "boost": None, "tuned": None, "again": None})


def compare(record: dict[str, Any], row: dict[str, Any]) -> int:
    """Say whether the result is the recorded one; the command's status."""
    keys = [key for key in ("WER", "sub", "del", "ins", "ECE", "ms off") if key in record["result"]]
    differing = [f"{key} {record['result'][key]} → {row.get(key)}" for key in keys if str(record["result"][key]) != str(row.get(key))]
    if differing:
        print(f"not what the record of {record['date']} says: {', '.join(differing)} (git {record['git'][:12]}, torch {record['torch']}, "
              f"device {record['device']} then; {_torch()} now)")
        return 1
    print(f"the same as recorded on {record['date']}: WER {row['WER']}")
    return 0


def _check(what: str, path: Path, expected: str) -> None:
    if not path.exists():
        hint = "; say with --data-dir where" if what == "cuts" else ""
        raise ValueError(f"the {what} of this record are not at {path} any more{hint}")
    if sha256(path) != expected:
        raise ValueError(f"the {what} at {path} are not those of the record (SHA-256 differs): the result cannot be repeated with them")


def _torch() -> str:
    import torch

    return torch.__version__
