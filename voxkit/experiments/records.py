"""Records: a job and its result, beside what it wrote, with the content of every file that decided it. Read back, the job runs again."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import time
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union

from voxkit import files

T = TypeVar("T")
_PLURAL = ("weights", "cuts", "phrases", "hypotheses", "references", "recordings", "curves", "conditions")


@dataclass(frozen=True)
class Record:
    """Attributes:
    command: that the job is of.
    job: its fields, as JSON has them.
    inputs: name → {"path", "near", "sha256"} of each file or folder that decided the result; `near` is the way there from the record, so
        that a run may be moved as a whole.
    made: git hash, versions of packages, the date, the device.
    result: what came of it.
    path: where the record lies.
    """

    command: str
    job: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    made: dict[str, str]
    result: Any
    path: Path

    def write(self) -> None:
        """Write it, atomically."""
        files.write_json(self.path, {"again": f"voxkit {self.command} --again {self.path}", "job": self.job, "inputs": self.inputs,
                                     "made": self.made, "result": self.result})

    def located(self, name: str, what: str, hint: str = "") -> str:
        """Where an input is now.

        Args:
            what: it is, for messages; hint: what to do where it is missing.

        Raises:
            ValueError: it is gone, or its content has changed.
        """
        known, is_are = self.inputs[name], "are" if what in _PLURAL else "is"
        places = [Path(known["path"]), (self.path.resolve().parent / known["near"]).resolve()]
        there = [place for place in places if place.exists()]
        if not there:
            raise ValueError(f"the {what} of this record {is_are} not at {places[0]} any more{hint}")
        for place in there:
            if files.sha256(place) == known["sha256"]:
                return str(place)
        raise ValueError(f"the {what} at {there[0]} {is_are} not {'those' if what in _PLURAL else 'that'} of the record (SHA-256 differs): "
                         "the result cannot be repeated")

    def again_folder(self, out: str | None) -> Path:
        """Where what is done again goes: `out`, by default again/ beside the record.

        Raises:
            ValueError: it is where the record is.
        """
        folder = Path(out or self.path.parent / "again")
        if folder.resolve() == self.path.resolve().parent:
            raise ValueError(f"--out {folder}: the record lies there and would be overwritten; give another folder")
        return folder


def stamp(path: str | Path, record: Path) -> dict[str, str]:
    """What a file or folder is, as an input of a record that lies at `record`."""
    near = os.path.relpath(Path(path).resolve(), record.resolve().parent)
    return {"path": str(Path(path).resolve()), "near": near, "sha256": files.sha256(path)}


def sha256_of_texts(texts: Mapping[str, str]) -> str:
    """Of texts by id, in whatever order."""
    return hashlib.sha256("".join(f"{id}\t{text}\n" for id, text in sorted(texts.items())).encode()).hexdigest()


def made_by(*packages: str, **more: str) -> dict[str, str]:
    """What computed: git hash, versions of voxkit and of packages, the date."""
    from voxkit import __version__
    from voxkit.train.run_dir import git_hash

    return {"git": git_hash(), "voxkit": __version__, **{name: importlib.import_module(name).__version__ for name in packages},
            "date": time.strftime("%Y-%m-%d %H:%M:%S"), **more}


def read_record(path: str | Path, command: str, where: str) -> Record:
    """The record of a command; `where` says which files are such records.

    Raises:
        ValueError: it is none, or another command's.
    """
    none = f"--again {path}: not a record of `voxkit {command}`"
    try:
        content = json.loads(files.read_text(path))
        said = str(content["again"]).split()
        record = Record(command, content["job"], content["inputs"], content["made"], content["result"], Path(path))
        whole = said[0] == "voxkit" and isinstance(record.job, dict) and all({"path", "near", "sha256"} <= set(stamped)
                                                                             for stamped in record.inputs.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{none} ({error}); they are {where}") from error
    if not whole:
        raise ValueError(f"{none}; they are {where}")
    if said[1] != command:
        raise ValueError(f"--again {path}: a record of `voxkit {said[1]}`, not of `voxkit {command}`; repeat it with "
                         f"`{' '.join(said)}`")
    return record


def as_json(job: Any) -> dict[str, Any]:
    """A job's fields as JSON has them."""
    return json.loads(json.dumps(dataclasses.asdict(job)))


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """A job from its fields.

    Raises:
        ValueError: a field that it has not.
    """
    hints, kept = typing.get_type_hints(cls), {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"a {cls.__name__} has no {name}: the record is of another version of voxkit")
        inner = next((t for t in _alternatives(hints[name]) if dataclasses.is_dataclass(t)), None)
        if inner is not None and isinstance(value, dict):
            value = from_json(inner, value)  # type: ignore[arg-type]
        kept[name] = tuple(value) if isinstance(value, list) else value
    return cls(**kept)


def differences(then: Any, now: Any) -> list[str]:
    """What of two results, numbers and texts in mappings and lists, is not the same: `name then → now`."""
    before, after = _flat(then), _flat(now)
    return [f"{key} {before.get(key)} → {after.get(key)}" for key in {**before, **after} if str(before.get(key)) != str(after.get(key))]


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    parts = value.items() if isinstance(value, Mapping) else enumerate(value, 1) if isinstance(value, (list, tuple)) else None
    if parts is None:
        return {name: value}
    return {key: inner for part, one in parts for key, inner in _flat(one, f"{name} {part}".strip()).items()}
