"""What tests read of records, and files of tuned weights written by hand."""

import json

from voxkit.files import sha256


def record_of(path):
    """A record as it lies there."""
    return json.loads(path.read_text())


def weights_of(path):
    """The weights of the search of a record."""
    return record_of(path)["job"]["search"]["weights"]


def write_tuned(path, methods, lm=None, phrases=None):
    """A file as `voxkit tune` writes it, of what --tuned looks at."""
    inputs = {"lm": {"path": str(lm), "near": str(lm), "sha256": sha256(lm)}} if lm else {}
    path.write_text(json.dumps({"job": {"search": {"phrases": phrases or {}}}, "inputs": inputs, "result": {"methods": methods}}))


def changed(path, **changes):
    """A copy of a record beside it, in which something is otherwise: `inputs__cuts__sha256="0"`."""
    record = record_of(path)
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = record
        for part in parents:
            place = place[part]
        if value is None:
            del place[last]
        else:
            place[last] = value
    other = path.with_name("other.json")
    other.write_text(json.dumps(record))
    return str(other)
