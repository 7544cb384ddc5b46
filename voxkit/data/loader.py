"""Batches for training and evaluation, with a position from which they continue exactly.

    loader = build_train_loader(cuts, tokenizer, config, seed=42)
    for batch in loader: ...
    state = loader.state_dict()         # after any batch, with workers or without
    loader.load_state_dict(state)       # the next batch is the one that would have come, to the last bit
"""

from __future__ import annotations

import logging
import math
import random
import signal
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from voxkit.batch import Batch, Padded
from voxkit.data.augment import Augment
from voxkit.data.config import DataConfig
from voxkit.data.dataset import Damage, Loaded, Plan, SpeechDataset
from voxkit.data.sampler import BucketSampler, SortedSampler, UtteranceFilter, text_of
from voxkit.rate import RATE

logger = logging.getLogger(__name__)

_NAMED = 20  # utterances that failed are named in the log one by one up to here; all are in `failures`
_LOOKED_AT = 10_000  # cuts of a set on disk, for the largest batch
_EVAL_SECONDS = 200.0  # per batch in evaluation, where the training's is found by trying


class TooManyFailures(ValueError):
    """More utterances could not be read than data.max_failures allows."""


class Loader:
    """Iterable of Batch.

    Attributes:
        epoch: current; position: batches of it given out.
        failures: of this epoch, what could not be read: id → reason.
        left_out: of a training loader, ids not trained on under each reason.

    Args:
        sampler: `batches(epoch)`, `fingerprint()`, a length.
        dataset: plans → batches.
        num_workers: processes that prepare batches, one thread each; 0 = the caller does it, when a batch is asked for.
        prefetch: batches that each worker prepares ahead.
        max_failures: utterances of an epoch that may fail.
    """

    def __init__(self, sampler: Any, dataset: SpeechDataset, *, num_workers: int = 0, prefetch: int = 2, max_failures: int = 100) -> None:
        self.sampler, self.dataset = sampler, dataset
        self.num_workers, self.prefetch, self.max_failures = num_workers, prefetch, max_failures
        self.epoch = self.position = 0
        self.failures: dict[str, str] = {}
        self._resumed = False
        self._fingerprint: str | None = None

    @property
    def left_out(self) -> dict[str, list[str]]:
        keep = getattr(self.sampler, "keep", None)
        return keep.left_out if keep is not None else {}

    def __len__(self) -> int:
        """Batches of an epoch (of the first, where they differ by a few)."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch: from the restored position once after `load_state_dict`, from the beginning else.

        Raises:
            TooManyFailures: names some of the utterances.
        """
        if not self._resumed:
            self.position, self.failures = 0, {}
        self._resumed = False
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        plans = _Plans(self.sampler, self.epoch, self.position)
        # A generator of its own: DataLoader would draw from the global one, and a resumed run would see other dropout.
        loader = DataLoader(self.dataset, batch_size=None, sampler=plans, num_workers=self.num_workers, collate_fn=_same,
                            worker_init_fn=_start_worker, generator=torch.Generator(),
                            prefetch_factor=self.prefetch if self.num_workers else None)
        start, given = self.position, 0
        for loaded in loader:
            self.position = loaded.index + 1
            if loaded.damaged is not None:
                loaded = self._restored(loaded.damaged)
            self._note(loaded)
            if loaded.batch is not None:
                given += 1
                yield loaded.batch
        if not given and not start and isinstance(self.sampler, BucketSampler):
            raise ValueError(self._why_empty())
        if self.failures:
            logger.warning("epoch %d: %d utterances could not be read", self.epoch, len(self.failures))

    def _restored(self, damage: Damage) -> Loaded:
        """The batch of a plan some of whose cached states are damaged: these are encoded anew, here, where the encoder is."""
        states, ids = self.dataset.states, list(damage.why)
        if getattr(states, "restores", False):
            logger.warning("state cache: %s; %d cuts of this batch are encoded anew (%s)", "; ".join(sorted(set(damage.why.values()))),
                           len(ids), ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else ""))
            states.restore([cut for cut in damage.plan.cuts if cut.id in damage.why])
            loaded = self.dataset[damage.plan]
            if loaded.damaged is None:
                return loaded
        rest = Plan(damage.plan.epoch, damage.plan.index, [cut for cut in damage.plan.cuts if cut.id not in damage.why])
        loaded = self.dataset[rest]
        loaded.failures.update(damage.why)
        return loaded

    def _why_empty(self) -> str:
        if self.failures:
            some = "; ".join(f"{name} ({reason})" for name, reason in list(self.failures.items())[:3])
            return f"none of the {len(self.failures)} utterances of epoch {self.epoch} could be read: {some}. Prepare the corpus anew"
        return (f"epoch {self.epoch} has no batch: there are no utterances, or data.drop_last drops the last and only batch of every "
                "bucket; set it to false, or data.max_duration lower")

    def _note(self, loaded: Loaded) -> None:
        for name, reason in loaded.failures.items():
            if name not in self.failures and len(self.failures) < _NAMED:
                logger.warning("%s left out: %s", name, reason)
            self.failures[name] = reason
        if len(self.failures) > self.max_failures:
            some = "; ".join(f"{name} ({reason})" for name, reason in list(self.failures.items())[:5])
            raise TooManyFailures(f"{len(self.failures)} utterances of epoch {self.epoch} could not be read, more than "
                                  f"data.max_failures={self.max_failures}: {some}. Prepare the corpus anew, or raise the limit")

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch; the current one again changes nothing."""
        if epoch != self.epoch:
            self.epoch, self.position, self.failures, self._resumed = epoch, 0, {}, False

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position: batches given out, not those that workers have prepared."""
        return {"epoch": self.epoch, "position": self.position, "failures": dict(self.failures), "fingerprint": self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; where the data, or the options that make the batches, are others, the epoch begins
        again, with a warning."""
        self.epoch, self.position, self._resumed = state["epoch"], state["position"], True
        self.failures = dict(state.get("failures", {}))
        if state.get("fingerprint", self._identity()) != self._identity():
            logger.warning("the data, its batching options or the number of processes are not those of the checkpoint: epoch %d begins "
                           "again instead of going on at batch %d", self.epoch, self.position)
            self.position, self.failures = 0, {}

    def _identity(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = self.sampler.fingerprint()
        return self._fingerprint


def build_train_loader(cuts: Any, tokenizer: Any, config: DataConfig, *, seed: int, rank: int = 0, world_size: int = 1,
                       states: Any = None, complete: Any = None) -> Loader:
    """Shuffled, bucketed, augmented batches, equally many on every process.

    Args:
        cuts: lhotse CutSet, one supervision per cut; a lazily opened one is streamed.
        tokenizer: with `encode(text) -> list[int]`; None = batches without tokens.
        config: see DataConfig.
        seed: of order and augmentation; the same on all processes.
        rank, world_size: of this process.
        states: a cache of encoder states (voxkit.data.state_cache) that batches carry instead of audio, for the cuts at every
            speed of data.speed_perturb. The audio is then not changed on the fly.
        complete: adds to a batch what a system reads besides (see SpeechDataset).

    Raises:
        ValueError: no utterance is left, noise or impulse responses are not there, max_duration is still auto.
    """
    keep = UtteranceFilter(config, tokenizer)
    sampler = BucketSampler(cuts, config, keep, seed=seed, rank=rank, world_size=world_size)
    if config.augments and states is not None:
        logger.warning("cached states: data.noise, data.rir, data.volume and data.microphone have no effect")
    augment = Augment(config) if config.augments and states is None else None
    dataset = SpeechDataset(tokenizer, input=config.input, augment=augment, states=states, seed=seed, bpe_dropout=config.bpe_dropout,
                            frames_per_second=config.frames_per_second, fbank_bins=config.fbank_bins, complete=complete)
    return Loader(sampler, dataset, num_workers=config.num_workers, prefetch=config.prefetch, max_failures=config.max_failures)


def build_eval_loader(cuts: Any, tokenizer: Any, config: DataConfig, *, rank: int = 0, world_size: int = 1, states: Any = None,
                      max_duration: float | None = None, complete: Any = None) -> Loader:
    """Every utterance once, unchanged, the longest first; nothing is filtered. With several processes each takes its share of the batches.

    Args:
        max_duration: seconds per batch; None = `data.max_duration`.
    """
    seconds = max_duration or (_EVAL_SECONDS if config.max_duration == "auto" else float(config.max_duration))
    sampler = SortedSampler(cuts, seconds, config.max_utterances, rank=rank, world_size=world_size)
    dataset = SpeechDataset(tokenizer, input=config.input, states=states, fbank_bins=config.fbank_bins, complete=complete)
    return Loader(sampler, dataset, num_workers=config.num_workers, prefetch=config.prefetch, max_failures=config.max_failures)


def largest_batch(cuts: Any, tokenizer: Any, config: DataConfig, seconds: float, *, states: Any = None) -> Batch:
    """The costliest batch that training could meet at `max_duration: seconds`: so many seconds of the longest utterance, at its slowest,
    with the longest transcript there is. For trying what fits into memory (`max_duration: auto`); its audio is noise, nothing is read
    but one entry of `states` (or of the features the cuts come with). Of sets that stay on disk some thousand cuts are looked at; the
    longest utterance is then as long as data.max_seconds lets it be, and as densely spoken as any of them."""
    keep = UtteranceFilter(config, tokenizer)
    kept = [cut for cut in (_some(cuts) if cuts_on_disk(cuts) else cuts) if keep(cut)]
    if not kept:
        raise ValueError("no utterance to train on" + (f": {keep.report()}" if keep.left_out else "; the cuts are empty"))
    longest = max(kept, key=lambda cut: cut.duration)
    slowest = min(config.speed_perturb)
    duration = longest_seconds(kept, config, cuts_on_disk(cuts)) / slowest
    count = math.ceil(seconds / duration)
    generator = torch.Generator().manual_seed(0)  # nothing is drawn from the global one
    dataset = SpeechDataset(None, input=config.input, states=states, fbank_bins=config.fbank_bins)
    if states is not None or dataset.given:
        item = dataset.item(longest if slowest == 1 else longest.perturb_speed(slowest))
    else:
        item = 0.1 * torch.randn(round(duration * RATE), generator=generator)
    batch = dataset.collate([longest] * count, [item] * count)
    if tokenizer is not None:
        tokens = max((tokenizer.encode(text_of(cut)) for cut in kept), key=len)
        if cuts_on_disk(cuts):
            tokens = tokens * math.ceil(duration * slowest / longest.duration)
        batch.tokens = Padded(torch.tensor([tokens] * count), torch.full((count,), len(tokens)))
    return batch


def longest_seconds(cuts: Iterable[Any], config: DataConfig, on_disk: bool | None = None) -> float:
    """Of the longest utterance that training takes; of sets that stay on disk, data.max_seconds."""
    on_disk = cuts_on_disk(cuts) if on_disk is None else on_disk
    return config.max_seconds if on_disk else min(config.max_seconds, max(cut.duration for cut in cuts))


def cuts_on_disk(cuts: Any) -> bool:
    """Whether a CutSet is read anew whenever it is iterated."""
    return bool(getattr(cuts, "is_lazy", False))


def _some(cuts: Any) -> Iterator[Any]:
    shuffled = getattr(cuts.data, "shuffled", None)
    return islice(shuffled(random.Random(0)) if shuffled else cuts, _LOOKED_AT)


class _Plans:
    """The keys of the dataset, from a position on. Runs in the main process, ahead of the workers."""

    def __init__(self, sampler: Any, epoch: int, start: int) -> None:
        self.sampler, self.epoch, self.start = sampler, epoch, start

    def __iter__(self) -> Iterator[Plan]:
        for index, cuts in islice(enumerate(self.sampler.batches(self.epoch)), self.start, None):
            yield Plan(self.epoch, index, cuts)


def _same(loaded: Any) -> Any:
    return loaded


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C and a scheduler's SIGTERM reach the whole process group. The trainer answers them with a checkpoint, and until then it
    # needs its batches; workers end with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
