"""Records: everything that decided a result, written beside it; `voxkit COMMAND --again RECORD` repeats it. What the commands share."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxkit import files
from voxkit.cli.fingerprint import sha256, stamp
from voxkit.cli.idle_options import counts
from voxkit.search.weights import WEIGHTS

if TYPE_CHECKING:
    from voxkit.cli.search_options import Search

MODELS = {"lm": "language model (--lm)", "rescore_lm": "language model (--rescore-lm)", "graph": "graph (--graph)"}
_PLURAL = ("weights", "cuts", "phrases", "hypotheses", "references", "recordings")


def add_again_argument(parser: argparse.ArgumentParser, what: str, where: str) -> None:
    """Register --again: what it repeats, and which files are its records."""
    parser.add_argument("--again", metavar="RECORD", help=f"repeat {what} from its record ({where}) and compare; nothing else needs to be "
                                                          "given")


def refuse_besides(args: argparse.Namespace, add_parser: Callable[[Any], Any], command: str, taken: Sequence[str]) -> None:
    """What --again does not look at is refused; `taken`: the options that may stand beside it.

    Raises:
        ValueError: with the options that were given and would be ignored.
    """
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="command"))
    absent = vars(parser.parse_args([command]))
    besides = [name if name in ("checkpoint", "overrides") else _option(name) for name, value in vars(args).items()
               if name not in ("again", *taken) and value != absent.get(name)]
    if besides:
        raise ValueError(f"--again takes everything from the record, not from {', '.join(besides)}: "
                         f"give only {' or '.join(map(_option, taken))} besides")


def write(path: Path, command: str, content: Mapping[str, Any]) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"again": f"voxkit {command} --again {path}", **content}
    files.write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read(path: str, command: str, where: str) -> dict[str, Any]:
    """The record of a command, with the `folder` that it lies in; `where` says which files are such records.

    Raises:
        ValueError: it is none, or another command's.
    """
    file = Path(path)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--again {path}: not a record of `voxkit {command}` ({error}); they are {where}") from error
    said = str(record.get("again", "")) if isinstance(record, dict) else ""
    if said.split()[:1] != ["voxkit"]:
        raise ValueError(f"--again {path}: not a record of `voxkit {command}`; they are {where}")
    if said.split()[1] != command:
        raise ValueError(f"--again {path}: a record of `voxkit {said.split()[1]}`, not of `voxkit {command}`; repeat it with `{said}`")
    return {**record, "folder": str(file.resolve().parent)}


def made_by(*packages: str) -> dict[str, str]:
    """What computed: git hash, versions of voxkit and of packages, the date."""
    from voxkit import __version__
    from voxkit.train.run_dir import git_hash

    return {"git": git_hash(), "voxkit": __version__, **{name: importlib.import_module(name).__version__ for name in packages},
            "date": time.strftime("%Y-%m-%d %H:%M:%S")}


def stamped(path: str | Path, record: Path) -> dict[str, str]:
    """What a file or folder is: its path, the way there from the record (a run may be moved as a whole), and its SHA-256."""
    return {**stamp(path), "near": near(path, record)}


def near(path: str | Path, record: Path) -> str:
    """The way from a record to a file."""
    return os.path.relpath(Path(path).resolve(), record.resolve().parent)


def unchanged(what: str, known: Mapping[str, str], folder: str, hint: str = "") -> str:
    """Where a stamped input is now.

    Args:
        what: for messages; known: as `stamped` gave it; folder: of the record; hint: what to do where it is missing.

    Raises:
        ValueError: it is gone, or its content has changed.
    """
    places = [Path(known["path"]), *([Path(folder) / known["near"]] if "near" in known else [])]
    there = [place for place in places if place.exists()]
    if not there:
        raise ValueError(f"the {what} of this record {_are(what)} not at {places[0]} any more{hint}")
    for place in there:
        if sha256(place) == known["sha256"]:
            return str(place)
    raise ValueError(f"the {what} at {there[0]} {_are(what)} not {'those' if what in _PLURAL else 'that'} of the record (SHA-256 differs): "
                     "the result cannot be repeated")


def checkpoint_part(loaded: Any, path: Path, weights: str = "") -> dict[str, Any]:
    """What a record says of the checkpoint; `weights`: SHA-256 of them, where it is known already. The path is relative to the record, so
    that a run can be moved."""
    return {"checkpoint": near(loaded.path, path),
            "weights": weights or sha256(loaded.path / "model.safetensors"), "configuration": sha256(loaded.path / "config.yaml"),
            "step": loaded.meta.get("step"), "tokenizer": loaded.tokenizer.fingerprint()}


def checkpoint_of(record: Mapping[str, Any]) -> str:
    """The path of the checkpoint of a record.

    Raises:
        ValueError: its weights or configuration are not there any more, or have changed.
    """
    path = (Path(record["folder"]) / record["checkpoint"]).resolve()
    for what, name in (("weights", "model.safetensors"), ("configuration", "config.yaml")):
        if what in record:
            unchanged(what, {"path": str(path / name), "sha256": record[what]}, record["folder"])
    return str(path)


def search_part(search: Search, options: Any, path: Path) -> dict[str, Any]:
    """What a record says of the search by one method: weights as they came out of configuration, tuning and command line, language models,
    graph, phrases with their boosts."""
    used = {"lm": options.lm is not None, "rescore_lm": options.rescore_lm is not None,
            "graph": options.method.startswith("k2") and options.method != "k2_ctc"}
    return {"method": options.method, **{key: getattr(options, key) for key in WEIGHTS}, "settings": search.settings(options.method),
            **models_part(search, path, [name for name, there in used.items() if there]), "phrases": search.phrases_of(options.method)}


def models_part(search: Search, path: Path, used: Collection[str] = tuple(MODELS)) -> dict[str, Any]:
    """What a record says of the language models and the graph that were given, of those `used`."""
    there = {name: search.stamps[name] for name in MODELS if name in search.files and name in used}
    return {name: {**there[name], "near": near(there[name]["path"], path)} if name in there else None for name in MODELS}


def models_of(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Their options.

    Raises:
        ValueError: one is not there any more, or has changed.
    """
    return {name: unchanged(MODELS[name], record[name], record["folder"]) if record.get(name) else None for name in MODELS}


def search_arguments(record: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The options that repeat a search; its phrases are written to a file in `out`.

    Raises:
        ValueError: checkpoint, language model or graph are not there any more, or have changed.
    """
    models, phrases = models_of(record), None
    if record["phrases"]:
        phrases = str(out / "phrases.tsv")
        files.write_text(phrases, "".join(f"{phrase}\t{boost!r}\n" for phrase, boost in record["phrases"].items()))
    then = {"length_limit": math.inf, **record}  # records from before had no limit
    weights = {key: then.get(key) if counts(record, key) else None for key in WEIGHTS}
    return {**weights, **models, "phrases": phrases, "boost": None, "tuned": None,
            "methods": [record["method"]], "overrides": record["overrides"], "checkpoint": checkpoint_of(record), "again": None}


def again_folder(record: Mapping[str, Any], out: str | None) -> Path:
    """Where what is done again goes: `out`, by default again/ beside the record.

    Raises:
        ValueError: it is where the record is.
    """
    folder = Path(out or Path(record["folder"]) / "again")
    if folder.resolve() == Path(record["folder"]).resolve():
        raise ValueError(f"--out {folder}: the record and what was fitted lie there and would be overwritten; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compare(record: Mapping[str, Any], then: Any, now: Any, said: str) -> int:
    """Say whether a result is the recorded one; the command's status.

    Args:
        then, now: the results, of one kind: numbers and texts in mappings and lists.
        said: what to say of it where it is the same.
    """
    then, now = _flat(then), _flat(now)
    differing = [f"{key} {then.get(key)} → {now.get(key)}" for key in {**then, **now} if str(then.get(key)) != str(now.get(key))]
    if differing:
        here = {name: importlib.import_module(name).__version__ for name in ("torch", "numpy") if name in record}
        was = ", ".join([f"git {record['git'][:12]}", *(f"{name} {record[name]}" for name in here),
                         *([f"device {record['device']}"] if "device" in record else [])])
        print(f"not what the record of {record['date']} says: {', '.join(differing)} ({was} then; {', '.join(here.values())} now)")
        return 1
    print(f"the same as recorded on {record['date']}: {said}")
    return 0


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    parts = value.items() if isinstance(value, Mapping) else enumerate(value, 1) if isinstance(value, list) else None
    if parts is None:
        return {name: value}
    return {key: inner for part, one in parts for key, inner in _flat(one, f"{name} {part}".strip()).items()}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _are(what: str) -> str:
    return "are" if what in _PLURAL else "is"
