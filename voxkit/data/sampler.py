"""Which utterances make the batches of an epoch: lhotse's dynamic buckets for training, sorted ones for evaluation.

An epoch's batches follow from the cuts, the options, the seed and the epoch alone. A position is therefore the number of batches
gone by, and to continue there costs no decoding.
"""

from __future__ import annotations

import hashlib
import json
import logging
import operator
import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from voxkit.data.augment import utterance_rng
from voxkit.data.config import DataConfig

logger = logging.getLogger(__name__)

_ESTIMATE = 10000  # utterances whose durations place the borders of the buckets
_LAZY_ESTIMATE = 5000  # where they are read from disk for it
_FULL_BATCHES = 4  # in each bucket, before there are fewer buckets
_DUPLICATE = re.compile(r"_dup\d+$")


class UtteranceFilter:
    """Leaves out of training what cannot be learned from; remembers the ids under each reason, in `left_out`.

    Args:
        config: `min_seconds`, `max_seconds`, `frames_per_second`, `speed_perturb`.
        tokenizer: with `encode(text)`; None = texts are not looked at.
    """

    def __init__(self, config: DataConfig, tokenizer: Any = None) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.fastest = max(config.speed_perturb)
        self.left_out: dict[str, list[str]] = {}
        self._known: set[str] = set()

    def __call__(self, cut: Any) -> bool:
        """Whether to keep a cut."""
        reason = self._reason(cut)
        if reason and cut.id not in self._known:
            self._known.add(cut.id)
            self.left_out.setdefault(reason, []).append(cut.id)
        return not reason

    def _reason(self, cut: Any) -> str:
        c = self.config
        if cut.duration < c.min_seconds:
            return f"shorter than data.min_seconds={c.min_seconds:g}"
        if cut.duration > c.max_seconds:
            return f"longer than data.max_seconds={c.max_seconds:g}"
        if self.tokenizer is None:
            return ""
        tokens = self.tokenizer.encode(text_of(cut))
        if not tokens:
            return "" if nobody_speaks(cut) else "without a transcript"
        if c.frames_per_second and alignable_frames(cut.duration / self.fastest, c.frames_per_second) < needed_frames(tokens):
            return f"more tokens than CTC can align at {c.frames_per_second:g} frames/s (data.frames_per_second)"
        return ""

    def report(self, total: int | None = None) -> str:
        """What was left out, in one line; empty if nothing."""
        count = sum(map(len, self.left_out.values()))
        parts = [f"{len(ids)} {reason} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})" for reason, ids in self.left_out.items()]
        return f"left out {count}{f' of {total}' if total else ''} utterances: {'; '.join(parts)}" if count else ""


def nobody_speaks(cut: Any) -> bool:
    """Whether a cut is known to hold no speech (`voxkit prepare nonspeech`): then its empty transcript is one."""
    return any((supervision.custom or {}).get("nonspeech") for supervision in cut.supervisions)


def needed_frames(tokens: list[int]) -> int:
    """Least frames in which CTC can emit the tokens: a blank goes between two that are the same."""
    return len(tokens) + sum(map(operator.eq, tokens, tokens[1:]))


def alignable_frames(seconds: float, frames_per_second: float) -> int:
    """Frames of CTC in so many seconds: convolutions at the edges eat up to one."""
    return int(seconds * frames_per_second) - 1


def text_of(cut: Any) -> str:
    """The transcript of a cut; several supervisions are joined."""
    return " ".join(s.text for s in cut.supervisions if s.text)


class BucketSampler:
    """Batches of like duration in random order, equally many on every process.

    Args:
        cuts: a list or CutSet in memory (filtered once and shuffled whole), or a lazy CutSet, which is read anew each epoch: the pieces
            of a prepared set in another order each time (`voxkit.data.sets.Cuts`), any other as it comes, and both shuffled in the buffer.
        config: see DataConfig; `max_duration` is a number by now.
        keep: which cuts to take.
        seed, rank, world_size: the same seed on all processes.

    Raises:
        ValueError: nothing is left to train on.
    """

    def __init__(self, cuts: Any, config: DataConfig, keep: UtteranceFilter, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if config.max_duration == "auto":
            raise ValueError("data.max_duration: auto has to be resolved before the loader is built; give seconds, for example 100")
        self.config, self.keep, self.seed, self.rank, self.world_size = config, keep, seed, rank, world_size
        self.speeds = list(config.speed_perturb)
        self.lazy = bool(getattr(cuts, "is_lazy", False))
        self._own_dup_ids: frozenset[str] = frozenset()  # of cuts in memory, that end as those of lhotse's duplicates do
        self.cuts = cuts
        if self.lazy:
            # Now: where the set is prepared anew while training reads it, this is still what it was.
            self._content = self.cuts.data.fingerprint() if hasattr(self.cuts.data, "fingerprint") else ""
            if config.short_first:
                raise ValueError("data.short_first needs all cuts in memory, and these are too many; switch it off")
            sample = list(islice(filter(keep, self._disk_order("sample")), _LAZY_ESTIMATE))
            total = float("inf") if len(sample) == _LAZY_ESTIMATE else sum(cut.duration for cut in sample)
        else:
            everything = list(cuts)
            self.cuts = [cut for cut in everything if keep(cut)]
            self._own_dup_ids = frozenset(cut.id for cut in self.cuts if _DUPLICATE.search(cut.id))
            if keep.left_out:
                logger.warning("training data: %s", keep.report(len(everything)))
            sample = self.cuts[:: max(len(self.cuts) // _ESTIMATE, 1)]
            total = sum(cut.duration for cut in self.cuts)
        if not sample:
            raise ValueError("no utterance to train on" + (f": {keep.report()}" if keep.left_out else "; the cuts are empty"))
        room = total / (float(config.max_duration) * world_size * _FULL_BATCHES)
        self.bins = duration_bins([cut.duration for cut in sample], int(min(config.num_buckets, max(room, 1))))
        self.borders = (*self.bins, max(max(cut.duration for cut in sample) / min(self.speeds), self.bins[-1]))
        self._durations = [cut.duration for cut in sample] if self.lazy else []
        self._told = not self.lazy
        self._length: int | None = None

    def batches(self, epoch: int) -> Iterator[list[Any]]:
        """The cuts of each batch of this process."""
        if self.config.short_first and epoch == 0:
            return iter(sorted(self._batches(epoch), key=lambda batch: max(cut.duration for cut in batch)))
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[list[Any]]:
        from lhotse.dataset import DynamicBucketingSampler

        config = self.config
        # sync_buckets also where there is one process: without it lhotse 1.33 may pick an empty bucket and end the epoch early.
        sampler = DynamicBucketingSampler(
            _Epoch(self, epoch), constraint=_constraint(float(config.max_duration), config.max_utterances, self.borders),
            duration_bins=self.bins, shuffle=config.shuffle, drop_last=config.drop_last, buffer_size=config.buffer_size,
            seed=self.seed + epoch, sync_buckets=True, rank=self.rank, world_size=self.world_size)
        for batch in sampler:
            alone = len(batch) == 1 and self.world_size > 1  # as every process is where lhotse repeats any
            yield [self._original(cut) if alone else cut for cut in batch]

    def _original(self, cut: Any) -> Any:
        """The cut under its own id: where an epoch ends with fewer utterances than processes, lhotse repeats some as `<id>_dup<n>`, and
        these again as `<id>_dup<n>_dup<m>`, which no cache of states knows. (A lazy cut whose own id ends so loses that end here.)"""
        id = cut.id
        while (end := _DUPLICATE.search(id)) and id not in self._own_dup_ids:
            id = id[:end.start()]
        return cut if id == cut.id else cut.with_id(id)

    def stream(self, epoch: int) -> Iterator[Any]:
        """The cuts of an epoch, in the order in which the buckets are filled."""
        if self.lazy:
            cuts: Iterable[Any] = self._kept_of_disk(epoch)
        elif self.config.shuffle:
            cuts = random.Random(f"{self.seed}/{epoch}").sample(self.cuts, len(self.cuts))
        else:
            cuts = self.cuts
        for cut in cuts:
            yield self._at_speed(cut, epoch)

    def _kept_of_disk(self, epoch: int) -> Iterator[Any]:
        count = 0
        for cut in self._disk_order(epoch):
            count += 1
            if self.keep(cut):
                yield cut
        if not self._told and self.keep.left_out:
            logger.warning("training data: %s", self.keep.report(count))
        self._told = True

    def _disk_order(self, epoch: int | str) -> Iterator[Any]:
        """All lazy cuts, in the order of an epoch before the buffer."""
        shuffled = getattr(self.cuts.data, "shuffled", None)
        if shuffled is None or not self.config.shuffle:
            return iter(self.cuts)
        return shuffled(random.Random(f"{self.seed}/{epoch}"))

    def _at_speed(self, cut: Any, epoch: int) -> Any:
        if self.speeds == [1.0]:
            return cut
        factor = utterance_rng(self.seed, epoch, cut.id, "speed").choice(self.speeds)
        return cut if factor == 1.0 else cut.perturb_speed(factor)

    def __len__(self) -> int:
        """Batches of the first epoch; later ones have a few more or less where speeds are drawn anew. Of lazy cuts, an estimate: how many
        there are, batched as those that the buckets were made from."""
        if self._length is None:
            self._length = self._estimated_length() if self.lazy else sum(1 for _ in self._batches(0))
        return self._length

    def _estimated_length(self) -> int:
        full = [int(float(self.config.max_duration) / border) for border in self.borders]
        if self.config.max_utterances:
            full = [min(size, self.config.max_utterances) for size in full]
        shares = [1 / max(full[min(bisect_right(self.borders, duration), len(full) - 1)], 1) for duration in self._durations]
        count = self.cuts.data.count() if hasattr(self.cuts.data, "count") else sum(1 for _ in self.cuts)
        return max(1, round(sum(shares) / len(shares) * count / self.world_size))

    def fingerprint(self) -> str:
        """What the batches follow from: two samplers with the same one give the same batches."""
        c = self.config
        ids = hashlib.sha256()
        if self.lazy:
            ids.update(self._content.encode())
        else:
            for cut in self.cuts:
                ids.update(f"{cut.id} {cut.duration}\n".encode())
        values = [self.seed, self.world_size, self.speeds, float(c.max_duration), c.max_utterances, c.min_seconds, c.max_seconds,
                  c.num_buckets, c.buffer_size, c.shuffle, c.drop_last, c.short_first, c.frames_per_second, ids.hexdigest()]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


class SortedSampler:
    """Every utterance once, the longest first; with several processes each takes every n-th batch.

    Args:
        cuts: CutSet or list of cuts.
        max_duration: seconds per batch, padding included.
        max_utterances: in a batch; 0 = no limit.
        rank, world_size: of this process.
    """

    def __init__(self, cuts: Iterable[Any], max_duration: float, max_utterances: int = 0, *, rank: int = 0, world_size: int = 1) -> None:
        groups: list[list[Any]] = []
        for cut in sorted(cuts, key=lambda cut: (-cut.duration, cut.id)):
            full = not groups or (len(groups[-1]) + 1) * groups[-1][0].duration > max_duration or len(groups[-1]) == max_utterances > 0
            if full:
                groups.append([])
            groups[-1].append(cut)
        self._groups = groups[rank::world_size]
        self.seed = 0

    def batches(self, epoch: int) -> Iterator[list[Any]]:
        """The cuts of each batch of this process."""
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def fingerprint(self) -> str:
        """Of the batches."""
        return hashlib.sha256(json.dumps([[cut.id for cut in group] for group in self._groups]).encode()).hexdigest()[:16]


def _constraint(max_duration: float, max_utterances: int, borders: tuple[float, ...]) -> Any:
    """lhotse's limit of a batch, but kept: its own lets in one last utterance that is longer than all before it, with which the padded
    batch is too large. Here every utterance of a bucket counts as long as the bucket's longest."""
    from lhotse.dataset.sampling.base import TimeConstraint

    class BucketConstraint(TimeConstraint):
        longest_seen: float

        def add(self, example: Any) -> None:
            super().add(example)
            border = borders[min(bisect_right(borders, example.duration), len(borders) - 1)]
            longer = example.duration if example.duration > borders[-1] + 0.01 else 0.0  # than any that the borders were made from
            self.longest_seen = max(self.longest_seen, border, longer)

    return BucketConstraint(max_duration=max_duration, max_cuts=max_utterances or None)


class _Epoch:
    """What lhotse's sampler iterates."""

    def __init__(self, sampler: BucketSampler, epoch: int) -> None:
        self.sampler, self.epoch = sampler, epoch

    def __iter__(self) -> Iterator[Any]:
        return self.sampler.stream(self.epoch)


def duration_bins(durations: list[float], buckets: int) -> list[float]:
    """Borders between `buckets` classes that hold the same number of seconds each (fewer where durations are the same)."""
    durations = sorted(durations)
    share, total = sum(durations) / buckets, 0.0
    bins: list[float] = []
    for duration in durations:
        if total >= share * (len(bins) + 1) and (not bins or duration > bins[-1]) and len(bins) < buckets - 1:
            bins.append(duration)
        total += duration
    return bins or [durations[-1] + 1.0]
