"""Looking after a state cache: what lies there for which encoder, and the removal of what no training reads any more.

A shard goes as a whole, once each of its entries is of no use: superseded (a newer entry that stays has all its states for the same cut),
made from audio that has changed since, of an encoder that is not wanted, or past the end of the data. A newer entry that is itself of no
use supersedes nothing: what is good stays, however much around it goes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from voxkit.data.cache_shards import (
    Entry,
    audio_files,
    audio_identity,
    content_hash,
    index_files,
    keep_numbers,
    locked,
    read_index,
    unfinished,
)

OTHER_FORMAT = "of another version of voxkit"


@dataclass
class Shard:
    """Attributes:
    files: in the order in which they are to be deleted: the index, then the data.
    entries: by cut id; none where they cannot be read.
    problem: why they cannot; "" where they can.
    num_bytes: of the files; written: when, in seconds since 1970.
    """

    files: list[Path]
    entries: dict[str, Entry]
    problem: str
    num_bytes: int
    written: float

    @cached_property
    def fingerprint(self) -> str:
        """Twelve digits that stand for the encoder's states stored here (a shard is of one encoder); "" where nothing can be read."""
        return fingerprint_of(next(iter(self.entries.values())).states) if self.entries else ""


@dataclass(frozen=True)
class Group:
    """What there is of one encoder's states in one type: one row of the table.

    Attributes:
        fingerprint, encoder: of the states, the names the encoder had; where nothing can be read "" and why.
        states, dtype: how many for each cut, and of what type.
        cuts: different ones; seconds: their audio, None where an old index does not tell.
        num_bytes: on disk; useless_bytes: those of them that `prune` frees; written: the last time.
    """

    fingerprint: str
    encoder: str
    states: int
    dtype: str
    cuts: int
    seconds: float | None
    num_bytes: int
    useless_bytes: int
    written: float


def fingerprint_of(states: Sequence[str]) -> str:
    """The short name of a tuple of states' fingerprints."""
    return content_hash("\n".join(states).encode())[:12]


def survey(directory: Path) -> list[Group]:
    """What lies in a cache, by encoder and type, the last written first.

    Raises:
        ValueError: there is no cache.
    """
    shards = read_shards(directory)
    useless = {id(shard) for shard, _ in useless_shards(shards)}
    together: dict[tuple[str, ...], list[Shard]] = defaultdict(list)
    for shard in shards:
        dtype = next(iter(shard.entries.values())).dtype if shard.entries else ""
        together[shard.fingerprint, dtype, shard.problem].append(shard)
    found = []
    for (fingerprint, dtype, problem), group in together.items():
        entries = {cut_id: entry for shard in group for cut_id, entry in shard.entries.items()}
        names = dict.fromkeys(entry.encoder for entry in entries.values() if entry.encoder)
        seconds = [entry.seconds for entry in entries.values()]
        found.append(Group(fingerprint, ", ".join(names) if entries else f"({problem})",
                           max((len(entry.states) for entry in entries.values()), default=0), dtype, len(entries),
                           sum(s for s in seconds if s is not None) if entries and None not in seconds else None,
                           sum(shard.num_bytes for shard in group), sum(shard.num_bytes for shard in group if id(shard) in useless),
                           max(shard.written for shard in group)))
    return sorted(found, key=lambda group: -group.written)


def prune(directory: Path, *, cuts: Mapping[str, Any] | None = None, fingerprints: Sequence[str] = (),
          keep: Sequence[Sequence[str]] = (), dry_run: bool = False) -> list[tuple[Shard, str]]:
    """Delete the shards that are of no use. Not while a training reads from there what is to go: its loader would miss it.

    Args:
        directory: of the cache.
        cuts: by id, as they are today: entries made from other audio go. Speed-perturbed copies are known by their originals. Cuts that
            are not among them, and those whose audio is out of reach, keep their entries.
        fingerprints: as `survey` names them, or how they begin: their entries go.
        keep: fingerprints of the states of encoders (`PretrainedEncoder.fingerprints`): entries that serve none of these go.
        dry_run: delete nothing.

    Returns:
        The shards and why each is of no use.

    Raises:
        ValueError: there is no cache, a builder is at work, a fingerprint that is not there or is short of being one, nothing that an
            encoder to be kept could read.
    """
    read_shards(directory)  # before the lock, which would make the directory
    with locked(directory, wait=False):
        shards = read_shards(directory)
        found = useless_shards(shards, cuts, _chosen(fingerprints, shards), keep)
        if found and not dry_run:
            keep_numbers(directory)
            for shard, _ in found:  # the oldest first: none comes to light again because a newer one has gone
                for path in shard.files:
                    path.unlink(missing_ok=True)
    return found


def read_shards(directory: Path) -> list[Shard]:
    """Everything in a cache, the oldest first; what a build left unfinished is a shard without entries.

    Raises:
        ValueError: there is nothing.
    """
    found = [_read_shard(index) for index in index_files(directory)]
    found += [Shard([path], {}, "unfinished", *_size_and_time([path])) for path in unfinished(directory)]
    if not found:
        raise ValueError(f"{directory}: no cached states there; a training with cache: true puts them into the folder that cache_dir "
                         "names, or into `states` in data.data_dir")
    return found


def useless_shards(shards: Sequence[Shard], cuts: Mapping[str, Any] | None = None, fingerprints: Iterable[str] = (),
                   keep: Sequence[Sequence[str]] = ()) -> list[tuple[Shard, str]]:
    """The shards, the oldest first as given, of whose entries none is of use, and why. The rest as for `prune`, fingerprints in full.

    Raises:
        ValueError: nothing there serves one of the encoders to be kept.
    """
    for wanted in keep:
        if not any(set(wanted) <= set(entry.states) for shard in shards for entry in shard.entries.values()):
            raise ValueError(f"no states there serve the encoder to be kept ({fingerprint_of(wanted)}): other weights, other layers or "
                             "another precision; nothing was deleted")
    current: dict[str, str | None] = {}  # what the audio of each cut is known by today
    staying: dict[str, list[tuple[str, ...]]] = defaultdict(list)  # states of the entries that are of use, by cut
    found = []
    for shard in reversed(shards):
        size, why = _size_and_time(shard.files[-1:])[0], Counter({shard.problem: 1} if shard.problem not in ("", OTHER_FORMAT) else {})
        for cut_id, entry in shard.entries.items():
            if cuts is not None and cut_id not in current:
                current[cut_id] = audio_today(cut_id, cuts)
            if entry.offset + entry.num_bytes > size:
                why["data cut short"] += 1
            elif shard.fingerprint in fingerprints:
                why["named"] += 1
            elif keep and not any(set(wanted) <= set(entry.states) for wanted in keep):
                why["of no encoder to be kept"] += 1
            elif current.get(cut_id) not in (None, entry.audio):
                why["audio changed"] += 1
            elif any(set(entry.states) <= set(newer) for newer in staying[cut_id]):
                why["superseded"] += 1
            else:
                staying[cut_id].append(entry.states)
        if why and why.total() >= len(shard.entries):
            found.append((shard, ", ".join(reason for reason, _ in why.most_common())))
    return found[::-1]


def audio_today(cut_id: str, cuts: Mapping[str, Any]) -> str | None:
    """The identity of a cut's audio as it is now; None where the cuts do not tell, or the audio is out of reach (a disk not mounted)."""
    cut = cuts.get(cut_id)
    copy = re.fullmatch(r"(.+)_sp(\d+(?:\.\d+)?)", cut_id)  # as lhotse names perturbed cuts
    if cut is None and copy and copy[1] in cuts:
        cut = cuts[copy[1]].perturb_speed(float(copy[2]))
    if cut is None or not all(Path(path).is_file() for path in audio_files(cut)):
        return None
    return audio_identity(cut)


def _read_shard(index: Path) -> Shard:
    files = [path for path in (index, index.with_suffix(".bin")) if path.is_file()]
    try:
        entries = read_index(index)
        problem = "" if entries else "data missing" if len(files) < 2 else OTHER_FORMAT
    except ValueError:
        entries, problem = {}, "index damaged"
    return Shard(files, entries, problem, *_size_and_time(files))


def _size_and_time(files: Iterable[Path]) -> tuple[int, float]:
    stats = [path.stat() for path in files if path.is_file()]  # a builder may have renamed one since
    return sum(stat.st_size for stat in stats), max((stat.st_mtime for stat in stats), default=0.0)


def _chosen(named: Sequence[str], shards: Sequence[Shard]) -> set[str]:
    """The fingerprints that begin as named."""
    there = sorted({shard.fingerprint for shard in shards if shard.fingerprint})
    chosen = set()
    for name in named:
        fitting = [fingerprint for fingerprint in there if fingerprint.startswith(name)]
        if len(fitting) != 1 or not name:
            raise ValueError(f"fingerprint {name!r} {'stands for several' if fitting else 'is not there'}; there are: {', '.join(there)}")
        chosen |= set(fitting)
    return chosen
