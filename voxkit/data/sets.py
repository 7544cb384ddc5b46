"""Prepared sets by name: `train` is the cuts that `voxkit prepare` wrote for it, `train:0.3` three tenths of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxkit.data.manifests import load_cuts


def split_path(data_dir: str, name: str) -> Path:
    """`train` → data/cuts_train.jsonl.gz; a path stays a path."""
    return Path(name) if name.endswith((".jsonl", ".jsonl.gz")) else Path(data_dir) / f"cuts_{name}.jsonl.gz"


def split_share(entry: str) -> tuple[str, float]:
    """`train:0.3` → ("train", 0.3); without a number the share is 1."""
    name, _, share = entry.rpartition(":")
    try:
        value = float(share) if name else 1.0
    except ValueError:
        return entry, 1.0
    if not 0 < value <= 1:
        raise ValueError(f"{entry}: the share of a set is above 0 and at most 1")
    return name or entry, value


def read_sets(data_dir: str, names: list[str], limit: int = 0) -> Any:
    """The cuts of several sets as one CutSet. `train:0.3` is three tenths of a set, spread over it evenly; `limit`: only the first so many.

    Raises:
        ValueError: a set that was not prepared; the message lists those there are. A share that is not in (0, 1].
    """
    from lhotse import CutSet

    sets = []
    for entry in names:
        cuts, share = lazy_set(data_dir, entry)
        sets.append([cut for i, cut in enumerate(cuts) if int((i + 1) * share) > int(i * share)])
    return CutSet.from_cuts([cut for cuts in sets for cut in cuts][:limit or None]).to_eager()


def lazy_set(data_dir: str, entry: str) -> tuple[Any, float]:
    """`train:0.3` → all cuts of the set, not yet read, and 0.3; errors as read_sets."""
    name, share = split_share(entry)
    path = split_path(data_dir, name)
    if not path.is_file():
        there = ", ".join(sorted(p.name[5:].split(".")[0] for p in Path(data_dir).glob("cuts_*.jsonl.gz"))) or "none"
        raise ValueError(f"no prepared set {name!r} ({path} is not there); prepared in {data_dir}: {there}. `voxkit prepare` makes them")
    return load_cuts(path), share


def with_speeds(cuts: Any, factors: list[float]) -> Any:
    """The cuts at every speed: what the cache stores in place of perturbing on the fly."""
    from lhotse import CutSet

    copies = [cuts if factor == 1.0 else cuts.perturb_speed(factor) for factor in factors or [1.0]]
    return CutSet.from_cuts(cut for part in copies for cut in part).to_eager()
