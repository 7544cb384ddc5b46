"""Prepared sets by name, read as they are wanted.

    train                       data/cuts_train.jsonl.gz, which `voxkit prepare` wrote
    train:0.3                   three tenths of it, spread over it evenly
    /corpora/cuts.jsonl.gz      lhotse cuts anywhere
    /corpora/shar/train         a lhotse Shar directory; also s3://bucket/train, https://example.org/train (see voxkit.data.shar)

Sets of up to `IN_MEMORY` cuts together are read whole. Larger ones stay on disk: a CutSet of them reads from the first to the last each
time it is iterated, and training takes their pieces in another order each epoch (`Cuts.shuffled`).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from voxkit.data.manifests import cut_of, open_manifest
from voxkit.data.pieces import Piece
from voxkit.data.shar import Shard, is_shar

IN_MEMORY = 20_000  # cuts: some 60 MB


@dataclass
class NamedSet:
    """One named set: where it starts its relative paths, its pieces, and the share of its cuts that is wanted."""

    name: str
    folder: Path | None
    pieces: Sequence[Piece | Shard]
    share: float

    def __iter__(self) -> Iterator[Any]:
        return self._wanted((line for piece in self.pieces for line in piece.read()), 0)

    def cuts(self, piece: Piece | Shard, first: int) -> Iterator[Any]:
        """The wanted cuts of a piece whose first cut is the set's `first`."""
        return self._wanted(piece.read(), first)

    def _wanted(self, lines: Iterable[tuple[str, dict[str, Any]]], first: int) -> Iterator[Any]:
        for i, (where, values) in enumerate(lines, first):
            if int((i + 1) * self.share) > int(i * self.share):
                yield cut_of(values, self.folder, where)

    def starts(self) -> list[int] | None:
        """Place of each piece's first cut in the set; None where the pieces do not tell."""
        starts = [0]
        for piece in self.pieces:
            if piece.lines is None:
                return None
            starts.append(starts[-1] + piece.lines)
        return starts


class Cuts:
    """The cuts of some sets, on disk: what a lazy lhotse CutSet wraps.

    Args:
        sets: in order.
        limit: only the first so many cuts; 0 = all.
    """

    def __init__(self, sets: Sequence[NamedSet], limit: int = 0) -> None:
        self.sets, self.limit = list(sets), limit

    def __iter__(self) -> Iterator[Any]:
        cuts = (cut for one in self.sets for cut in one)
        return islice(cuts, self.limit) if self.limit else cuts

    def shuffled(self, rng: random.Random) -> Iterator[Any]:
        """All cuts, the pieces of all sets in random order, each from its first cut to its last. A share of a set whose pieces do not
        tell how many cuts they hold, and the first so many cuts (`limit`), cannot be shuffled so: these come in order."""
        if self.limit:
            yield from self
            return
        parts: list[tuple[NamedSet, Piece | Shard | None, int]] = []
        for one in self.sets:
            starts = [0] * len(one.pieces) if one.share == 1 else one.starts()
            parts += [(one, None, 0)] if starts is None else [(one, piece, start) for piece, start in zip(one.pieces, starts)]
        rng.shuffle(parts)
        for one, piece, start in parts:
            yield from one if piece is None else one.cuts(piece, start)

    @property
    def known_count(self) -> int | None:
        """How many cuts there are; None where the pieces do not tell."""
        if any(piece.lines is None for one in self.sets for piece in one.pieces):
            return None
        return self.count()

    def count(self) -> int:
        """How many cuts there are; reads what does not tell."""
        total = sum(int(one.share * sum(piece.count() for piece in one.pieces)) for one in self.sets)
        return min(total, self.limit) if self.limit else total

    def fingerprint(self) -> str:
        """Of what the manifests hold, as far as their pieces' sizes and the first cuts tell."""
        digest = hashlib.sha256(f"{self.limit}".encode())
        for one in self.sets:
            digest.update(f"|{one.share} {len(one.pieces)}".encode())
            for piece in one.pieces:
                digest.update(f" {piece.stamp}".encode())
            for _, values in islice(one.pieces[0].read() if one.pieces else (), 8):
                digest.update(f"{values.get('id')} {values.get('duration')}".encode())
        return digest.hexdigest()[:16]


def split_path(data_dir: str, name: str) -> Path:
    """`train` → data/cuts_train.jsonl.gz; a path stays a path."""
    return Path(name) if name.endswith((".jsonl", ".jsonl.gz")) else Path(data_dir) / f"cuts_{name}.jsonl.gz"


def split_share(entry: str) -> tuple[str, float]:
    """`train:0.3` → ("train", 0.3); without a number the share is 1."""
    match = re.fullmatch(r"(.+):([0-9.eE+-]+)", entry)
    if not match or re.fullmatch(r"\w+://[^/]*", match[1]):  # the number is a port
        return entry, 1.0
    try:
        share = float(match[2])
    except ValueError:
        return entry, 1.0
    if not 0 < share <= 1:
        raise ValueError(f"{entry}: the share of a set is above 0 and at most 1")
    return match[1], share


def named_set(data_dir: str, entry: str) -> NamedSet:
    """One entry of data.train and the like, not yet read.

    Raises:
        ValueError: it is not there; the message lists the sets there are. A share that is not in (0, 1].
    """
    name, share = split_share(entry)
    if not is_shar(name) and not (path := split_path(data_dir, name)).is_file():
        there = ", ".join(sorted(p.name[5:].split(".")[0] for p in Path(data_dir).glob("cuts_*.jsonl.gz"))) or "none"
        raise ValueError(f"no prepared set {name!r} ({path} is not there); prepared in {data_dir}: {there}. `voxkit prepare` makes them")
    pieces, folder = open_manifest(name if is_shar(name) else path)
    return NamedSet(name, folder, pieces, share)


def read_sets(data_dir: str, names: Sequence[str], limit: int = 0) -> Any:
    """The cuts of several sets as one lhotse CutSet: in memory where they are few, else lazy, its `.data` a `Cuts`.

    Args:
        limit: only the first so many cuts; 0 = all.

    Raises:
        ValueError: as named_set; a manifest that is damaged, or takes its audio from anything but files.
    """
    from lhotse import CutSet

    cuts = Cuts([named_set(data_dir, entry) for entry in names], limit)
    return CutSet.from_cuts(list(cuts)) if _few(cuts) else CutSet(cuts)


def _few(cuts: Cuts) -> bool:
    count = cuts.known_count
    if count is None:
        count = sum(1 for _ in islice((0 for one in cuts.sets for piece in one.pieces for _ in piece.read()), IN_MEMORY + 1))
    return count <= IN_MEMORY or 0 < cuts.limit <= IN_MEMORY


def lazy_set(data_dir: str, entry: str) -> tuple[Any, float]:
    """`train:0.3` → all cuts of the set, not yet read, and 0.3; errors as read_sets."""
    one = named_set(data_dir, entry)
    return Cuts([NamedSet(one.name, one.folder, one.pieces, 1.0)]), one.share


def with_speeds(cuts: Any, factors: list[float]) -> Any:
    """The cuts at every speed: what the cache stores in place of perturbing on the fly."""
    from lhotse import CutSet

    copies = [cuts if factor == 1.0 else cuts.perturb_speed(factor) for factor in factors or [1.0]]
    return CutSet.from_cuts(cut for part in copies for cut in part).to_eager()
