"""States of a frozen encoder, stored once per cut and read back memory-mapped.

A directory holds shards: `shard-00000.bin`, the states of some hundred cuts one after another, each [L, T, D] in one piece so
that reading an utterance is one contiguous read, and `shard-00000.json`, its index, written last and atomically. A build that
is interrupted loses the shard it was writing and continues after the last whole one. What is stored is known by content: an
entry counts as there when the encoder's fingerprint, the cut's audio (a sample of its bytes, its place, speed and other
transforms) and the number type are the same; anything else is encoded anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.data.cache_shards import (
    DTYPES,
    Entry,
    ShardWriter,
    audio_identity,
    data_size,
    index_files,
    locked,
    read_index,
    sample_of,
    unfinished,
)
from voxkit.data.reader import load_samples

logger = logging.getLogger(__name__)

Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class DamagedStates(ValueError):
    """A shard is not what was written; the message names it."""


class StateCache:
    """A cache directory, opened for reading. Cheap to pickle into loader workers: they map the shards anew.

    Args:
        directory: where `build_state_cache` wrote.
        fingerprint: the encoder's, one string or one per state. States are picked by it, so a cache of all states serves a
            model that needs the lower ones; None = whatever is there, unchecked.
    """

    def __init__(self, directory: str | os.PathLike, fingerprint: str | Sequence[str] | None = None):
        self.directory = Path(directory)
        self.entries: dict[str, Entry] = {}
        wanted = fingerprint if fingerprint is None or isinstance(fingerprint, str) else tuple(fingerprint)
        self._maps: dict[str, np.ndarray] = {}
        self._columns: dict[tuple[str, ...], slice | list[int] | None] = {}
        self._wanted = wanted
        self._restore: Callable[[list[Any]], None] | None = None  # set by build_state_cache
        self._read_indexes()

    def _read_indexes(self) -> None:
        for index in index_files(self.directory):
            size = data_size(index)
            entries = {id: entry for id, entry in read_index(index).items() if self._pick(entry.states, self._wanted) is not None}
            whole = {id: entry for id, entry in entries.items() if entry.offset + entry.num_bytes <= size}
            if len(whole) < len(entries):
                logger.warning("state cache: %s is cut short; %d of its %d cuts are encoded anew", index.with_suffix(".bin"),
                               len(entries) - len(whole), len(entries))
            self.entries.update(whole)

    @classmethod
    def open(cls, directory: str | os.PathLike, fingerprint: str | Sequence[str] | None = None) -> StateCache:
        """Open a directory that must hold something usable.

        Raises:
            ValueError: there is no cache, or none of it was made by this encoder.
        """
        cache = cls(directory, fingerprint)
        if not cache.entries:
            there = index_files(Path(directory))
            raise ValueError(f"{directory}: " + ("the cached states were made by another encoder, other layers or another "
                             "precision; build the cache anew" if there else "no state cache; build it first (cache: true does)"))
        return cache

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, cut_id: str) -> bool:
        return cut_id in self.entries

    def get(self, cut_id: str) -> Tensor:
        """[L, T, D] of one cut, a view of the mapped file: copy it before writing to it.

        Raises:
            KeyError: the cut is not cached.
            DamagedStates: its shard was cut short, overwritten or removed since.
        """
        if cut_id not in self.entries:
            raise KeyError(f"no cached states of cut {cut_id} in {self.directory}; build the cache with the cuts you train on, "
                           "speed-perturbed copies included")
        entry = self.entries[cut_id]
        kind, dtype = DTYPES[entry.dtype]
        raw = self._bytes(entry)
        states = torch.from_numpy(raw.view(kind).reshape(len(entry.states), entry.frames, entry.dim))
        states = states.view(dtype) if states.dtype != dtype else states
        columns = self._columns[entry.states]
        return states if isinstance(columns, slice) and columns == slice(None) else states[columns]

    def frames(self, cut_id: str) -> int:
        """T of one cut."""
        return self.entries[cut_id].frames

    def missing(self, cuts: Iterable[Any]) -> list[str]:
        """Ids of the cuts that are not cached, or whose audio is another than when they were."""
        return [cut.id for cut in cuts if cut.id not in self.entries or self.entries[cut.id].audio != audio_identity(cut)]

    def covers(self, cuts: Iterable[Any]) -> bool:
        """True where every cut is cached and unchanged."""
        return not self.missing(cuts)

    @property
    def num_bytes(self) -> int:
        """Size of the entries."""
        return sum(entry.num_bytes for entry in self.entries.values())

    def _pick(self, have: tuple[str, ...], wanted: str | tuple[str, ...] | None) -> slice | list[int] | None:
        """Which rows of an entry are wanted; a slice (no copy) where they are in one run; None where one is missing."""
        if have not in self._columns:
            if isinstance(wanted, str):
                self._columns[have] = slice(None) if have == _state_keys(wanted, len(have)) else None
            elif wanted is None or wanted == have:
                self._columns[have] = slice(None)
            elif not set(wanted) <= set(have):
                self._columns[have] = None
            else:
                rows = [have.index(key) for key in wanted]
                run = rows == list(range(rows[0], rows[0] + len(rows)))
                self._columns[have] = slice(rows[0], rows[-1] + 1) if run else rows
        return self._columns[have]

    @property
    def restores(self) -> bool:
        """Whether `restore` can do its work here: it takes the encoder."""
        return self._restore is not None

    def restore(self, cuts: list[Any]) -> None:
        """Encode cuts anew whose entries are damaged.

        Raises:
            ValueError: as build_state_cache.
        """
        assert self._restore is not None
        self._restore(cuts)
        self._read_indexes()

    def _bytes(self, entry: Entry) -> np.ndarray:
        path, end = self.directory / entry.shard, entry.offset + entry.num_bytes
        try:  # before the map is touched: what lies behind the end of a file that was cut short ends the process (SIGBUS)
            if os.stat(path).st_size < end:
                raise DamagedStates(f"{path}: cut short")
        except FileNotFoundError as error:
            if entry.shard not in self._maps:  # one that is open is read to its end
                raise DamagedStates(f"{path}: removed") from error
        raw = self._map(entry.shard)[entry.offset:end]
        if entry.sample is not None and sample_of(raw) != entry.sample:
            raise DamagedStates(f"{path}: overwritten, by zeros or something else")
        return raw

    def _map(self, shard: str) -> np.ndarray:
        if shard not in self._maps:  # copy-on-write: torch wants writable memory, and the file stays as it is
            self._maps[shard] = np.memmap(self.directory / shard, dtype=np.uint8, mode="c")
        return self._maps[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}, "_restore": None}


def build_state_cache(cuts: Iterable[Any], encode: Encode, directory: str | os.PathLike, fingerprint: str | Sequence[str], *,
                      dtype: str = "float16", batch_duration: float = 40.0, shard_megabytes: float = 256.0,
                      device: torch.device | str = "cpu", progress: bool = True, rank: int = 0, world_size: int = 1,
                      barrier: Callable[[], None] = lambda: None, encoder: str = "") -> StateCache:
    """Encode the cuts that the directory does not hold yet.

    Args:
        cuts: lhotse cuts at 16 kHz; speed-perturbed copies are cuts of their own, with their own ids.
        encode: audio [B, S] float32, lengths [B] → states [B, L, T, D], lengths [B]; run under inference_mode.
        directory: where the shards go.
        fingerprint: of the encoder: one string, or one per state it gives.
        dtype: how states are stored: float16 (finest at two bytes), bfloat16 (where float16 overflows) or float32.
        batch_duration: seconds of audio, padding included, in one call of `encode`.
        shard_megabytes: how much an interruption may lose.
        device: where audio is put before `encode`.
        progress: log what is done every few shards.
        rank, world_size: this process among those that share the work, all with the same cuts; `barrier` waits for all of them.
        encoder: its name, for people who look at what is there (`voxkit cache`).

    Returns:
        The opened cache. Cuts that cannot be read or encoded are named in the log and missing from it.

    Raises:
        ValueError: unknown dtype, a duplicate id, the disk is too small, states that float16 cannot hold, nothing could be read.
    """
    if dtype not in DTYPES:
        raise ValueError(f"cache dtype {dtype!r} is none of {', '.join(DTYPES)}")
    cuts = list(cuts)
    seen: set[str] = set()
    twice = [cut.id for cut in cuts if cut.id in seen or seen.add(cut.id)]  # type: ignore[func-returns-value]
    if twice:
        raise ValueError(f"{len(twice)} cut ids occur twice, for example {twice[0]}; give copies ids of their own")
    directory = Path(directory)
    with locked(directory) if rank == 0 else contextlib.nullcontext():  # another run waits, then finds the work done
        if rank == 0:
            for path in unfinished(directory):
                path.unlink()
        barrier()
        writer = ShardWriter(directory, shard_megabytes, dtype, rank, encoder)
        failed = _build(cuts[rank::world_size], encode, writer, fingerprint, batch_duration, device, progress, world_size)
        barrier()
    built = StateCache(directory, fingerprint)

    def restore(damaged: list[Any]) -> None:
        with locked(directory):
            again = ShardWriter(directory, shard_megabytes, dtype, rank, encoder)
            _build(damaged, encode, again, fingerprint, batch_duration, device, False, 1, anew=True)

    built._restore = restore
    if failed and len(built.missing(cuts)) == len(cuts):
        raise ValueError(f"none of {len(cuts)} cuts could be encoded: {_shown(failed)}")
    return built


def _build(cuts: list[Any], encode: Encode, writer: ShardWriter, fingerprint: str | Sequence[str], batch_duration: float,
           device: torch.device | str, progress: bool, world_size: int, anew: bool = False) -> dict[str, str]:
    """Write what is missing of one process's share (`anew`: all of it) → {id: why it could not be encoded}."""
    directory, dtype = writer.directory, writer.dtype
    cache = StateCache(directory, fingerprint)
    todo = {cut.id for cut in cuts}
    if not anew:
        todo = set(cache.missing(cuts)) | {cut_id for cut_id, entry in cache.entries.items() if entry.dtype != dtype}
    num_cuts = len(cuts)
    cuts = sorted((cut for cut in cuts if cut.id in todo), key=lambda cut: cut.duration)
    if not cuts:
        return {}
    durations = {cut.id: cut.duration for cut in cuts}
    total = sum(durations.values())
    logger.info("state cache %s: %d cuts (%.2f h) to encode, %d there", directory, len(cuts), total / 3600,
                num_cuts - len(cuts))
    failed: dict[str, str] = {}
    done = told = 0.0
    sized = False
    for batch, audio, lengths, bad in _batches(cuts, batch_duration):
        done += sum(cut.duration for cut in batch) + sum(durations[cut_id] for cut_id in bad)
        failed.update(bad)
        for encoded, states, frames in _encode(encode, batch, audio.to(device), lengths.to(device), failed):
            keys = _state_keys(fingerprint, states.shape[1])
            if not sized:
                sized = True
                size = states.shape[1] * states.shape[3] * np.dtype(DTYPES[dtype][0]).itemsize * float(frames.sum())
                share = size / sum(cut.duration for cut in encoded) * total  # the other processes take as much of the same disk
                _check_disk(directory, share * world_size, total * world_size)
            stored = _to_dtype(states, dtype, [cut.id for cut in encoded])
            for cut, item, count in zip(encoded, stored, frames.tolist()):
                writer.add(cut, item[:, :count], keys)
        if progress and done - told > max(total / 20, 600):
            told = done
            logger.info("state cache: %.0f %% of %.2f h", 100 * done / total, total / 3600)
    writer.close()
    if failed:
        logger.warning("state cache: %d of %d cuts left out: %s", len(failed), len(cuts), _shown(failed))
    return failed


def _shown(failed: dict[str, str]) -> str:
    return "; ".join(f"{cut_id}: {why}" for cut_id, why in list(failed.items())[:5])


def _encode(encode: Encode, cuts: list[Any], audio: Tensor, lengths: Tensor,
            failed: dict[str, str]) -> Iterator[tuple[list[Any], Tensor, Tensor]]:
    """Encode a batch; where the encoder refuses it (ValueError: too long, too short), one by one, to name who it was."""
    if not cuts:
        return
    try:
        with torch.inference_mode():
            found = [(cuts, *encode(audio, lengths))]
    except ValueError as error:
        if len(cuts) == 1:
            failed[cuts[0].id] = str(error)
            return
        found = []
        for row, cut in enumerate(cuts):
            one = slice(row, row + 1)
            found += _encode(encode, [cut], audio[one, : int(lengths[row])], lengths[one], failed)
    yield from found


def _batches(cuts: list[Any], seconds: float) -> Iterator[tuple[list[Any], Tensor, Tensor, dict[str, str]]]:
    """Cuts sorted by duration → (cuts, audio [B, S], lengths [B], {id: why it cannot be read}); one batch is read ahead."""
    groups: list[list[Any]] = []
    for cut in cuts:
        if groups and (len(groups[-1]) + 1) * cut.duration <= seconds:
            groups[-1].append(cut)
        else:
            groups.append([cut])
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(_read, groups[0])
        for following in (*groups[1:], None):
            current = ahead.result()
            if following is not None:
                ahead = pool.submit(_read, following)
            yield current


def _read(cuts: list[Any]) -> tuple[list[Any], Tensor, Tensor, dict[str, str]]:
    good, audio, bad = [], [], {}
    for cut in cuts:
        try:
            samples = torch.from_numpy(load_samples(cut))
        except Exception as error:  # whatever a decoder raises: the cut is named and reported
            bad[cut.id] = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        good.append(cut)
        audio.append(samples)
    if not good:
        return [], torch.empty(0), torch.empty(0), bad
    lengths = torch.tensor([len(samples) for samples in audio])
    longest = int(lengths.max())
    return good, torch.stack([F.pad(samples, (0, longest - len(samples))) for samples in audio]), lengths, bad


def _to_dtype(states: Tensor, dtype: str, ids: list[str]) -> Tensor:
    stored = states.to(DTYPES[dtype][1])
    finite = torch.isfinite(stored).flatten(1).all(1)
    if not bool(finite.all()):
        bad = [cut_id for cut_id, fine in zip(ids, finite.tolist()) if not fine]
        if bool(torch.isfinite(states).all()):
            raise ValueError(f"states of {', '.join(bad)} are too large for {dtype}; store the cache in bfloat16")
        raise ValueError(f"the encoder gives states that are not finite for {', '.join(bad)}; look at the audio, or encode it "
                         "in float32")
    return stored.cpu()


def _check_disk(directory: Path, num_bytes: float, seconds: float) -> None:
    free = shutil.disk_usage(directory).free
    logger.info("state cache: %.2f GB for %.2f h of audio, %.1f GB free", num_bytes / 1e9, seconds / 3600, free / 1e9)
    if num_bytes * 1.02 > free:
        raise ValueError(f"the state cache needs about {num_bytes / 1e9:.1f} GB and {directory} has {free / 1e9:.1f} GB free; "
                         f"`voxkit cache {directory}` shows what can go; or put it on another disk, cache fewer states (encoder "
                         "states: [...]) or fewer speed-perturbed copies, or set cache: false")


def _state_keys(fingerprint: str | Sequence[str], num_states: int) -> tuple[str, ...]:
    if isinstance(fingerprint, str):
        return tuple(f"{fingerprint}/{state}" for state in range(num_states))
    if len(fingerprint) != num_states:
        raise ValueError(f"{len(fingerprint)} fingerprints for {num_states} states")
    return tuple(fingerprint)
