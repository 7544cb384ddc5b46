"""Sessions as training examples: utterances of one speaker under one condition, in random order, in rows of a batch.

A batch holds some sessions of equally many utterances, one session behind the other; `Batch.sessions` says which rows belong together.
Utterances come in random order, or a model would learn what a text is about instead of who speaks it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from voxkit.data.augment import brief, utterance_rng
from voxkit.data.conditions import Conditions
from voxkit.data.config import DataConfig
from voxkit.data.dataset import Loaded, Plan, SpeechDataset
from voxkit.data.loader import Loader
from voxkit.data.sampler import UtteranceFilter
from voxkit.data.session_config import SessionConfig

logger = logging.getLogger(__name__)


class InSession(NamedTuple):
    """An utterance in its session. Batches are lists of these, sessions one behind the other."""

    cut: Any
    session: str

    @property
    def id(self) -> str:
        """Of the utterance."""
        return self.cut.id


class SessionSampler:
    """Sessions in random order, as many to a batch as fit into `max_duration`, equally many batches on every process.

    Args:
        cuts: each with a speaker in its supervision; one without is a speaker of its own.
        config: `max_duration` in seconds, padding included; `max_utterances`, `shuffle`, `min_seconds`, `max_seconds`.
        lengths: utterances of a session by epoch (SessionConfig.length).
        keep: which cuts to take; None = all.
        seed, rank, world_size: the same seed on all processes.

    Raises:
        ValueError: nothing is left.
    """

    def __init__(self, cuts: Any, config: DataConfig, lengths: Any, keep: UtteranceFilter | None = None, *, seed: int = 0, rank: int = 0,
                 world_size: int = 1) -> None:
        if config.max_duration == "auto":
            raise ValueError("data.max_duration: auto has to be resolved before the loader is built; give seconds, for example 100")
        self.config, self.lengths, self.keep, self.seed = config, lengths, keep, seed
        self.rank, self.world_size = rank, world_size
        everything = list(cuts)
        self.speakers: dict[str, list[Any]] = {}
        for cut in everything:
            if keep is None or keep(cut):
                self.speakers.setdefault(speaker_of(cut), []).append(cut)
        if keep is not None and keep.left_out:
            logger.warning("training data: %s", keep.report(len(everything)))
        if not self.speakers:
            raise ValueError("no utterance to train on" + (f": {keep.report()}" if keep and keep.left_out else "; the cuts are empty"))

    def sessions(self, epoch: int) -> list[list[InSession]]:
        """Every utterance in one session of the epoch; the last one of a speaker may be shorter than the others."""
        size, found = self.lengths(epoch), []
        for speaker, cuts in self.speakers.items():
            order = list(cuts)
            if self.config.shuffle:
                utterance_rng(self.seed, epoch, speaker, "order").shuffle(order)
            for begin in range(0, len(order), size):
                name = f"{speaker}/{epoch}/{begin // size}"
                found.append([InSession(cut, name) for cut in order[begin:begin + size]])
        return found

    def batches(self, epoch: int) -> Iterator[list[InSession]]:
        """The utterances of each batch of this process."""
        rng = utterance_rng(self.seed, epoch, "", "sessions")
        sessions = self.sessions(epoch)
        # like beside like: number of utterances, then the longest of them; sessions of one utterance are sorted wholly by length
        sessions.sort(key=lambda session: (len(session), max(each.cut.duration for each in session) * rng.uniform(0.9, 1.1)))
        groups: list[list[list[InSession]]] = []
        longest = 0.0
        for session in sessions:
            longest_here = max(each.cut.duration for each in session)
            if groups and len(session) == len(groups[-1][0]):
                rows = (len(groups[-1]) + 1) * len(session)
                fits = rows * max(longest, longest_here) <= float(self.config.max_duration)
                if fits and not (self.config.max_utterances and rows > self.config.max_utterances):
                    groups[-1].append(session)
                    longest = max(longest, longest_here)
                    continue
            groups.append([session])
            longest = longest_here
        if self.config.shuffle:
            rng.shuffle(groups)
        groups += groups[:-len(groups) % self.world_size]
        for group in groups[self.rank::self.world_size]:
            yield [each for session in group for each in session]

    def __len__(self) -> int:
        """Batches of the first epoch; later ones have fewer and longer sessions."""
        return sum(1 for _ in self.batches(0))

    def fingerprint(self) -> str:
        """What the batches follow from: two samplers with the same one give the same batches."""
        c = self.config
        ids = hashlib.sha256()
        for speaker, cuts in self.speakers.items():
            for cut in cuts:
                ids.update(f"{speaker} {cut.id} {cut.duration}\n".encode())
        lengths = [self.lengths(epoch) for epoch in range(100)]
        values = [self.seed, self.world_size, float(c.max_duration), c.max_utterances, c.min_seconds, c.max_seconds, c.shuffle, lengths,
                  ids.hexdigest()]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


class SessionDataset(SpeechDataset):
    """Plan of `InSession` → Loaded, each session under one condition. Arguments as SpeechDataset, and

        conditions: None = as recorded.
    """

    def __init__(self, tokenizer: Any = None, *, conditions: Conditions | None = None, **options: Any) -> None:
        super().__init__(tokenizer, **options)
        self.conditions = conditions

    def _load(self, plan: Plan) -> Loaded:
        kept: list[InSession] = []
        items: list[torch.Tensor] = []
        failures: dict[str, str] = {}
        for each in plan.cuts:
            try:
                item = self.item(each.cut)
            except Exception as error:  # whatever a decoder raises: the utterance is named, counted and left out
                failures[each.id] = brief(error)
                continue
            if self.conditions is not None and self.states is None and not self.given:
                condition = self.conditions.draw(utterance_rng(self.seed, plan.epoch, each.session, "condition"))
                rng = utterance_rng(self.seed, plan.epoch, each.id, "place")
                changed, missing = self.conditions(item.numpy(), condition, rng)
                item = torch.from_numpy(changed)
                failures.update(missing)
            kept.append(each)
            items.append(item)
        if not kept:
            return Loaded(plan.index, None, failures)
        batch = self.collate([each.cut for each in kept], items, plan.epoch)
        batch.sessions = [each.session for each in kept]
        return Loaded(plan.index, batch, failures)


def build_session_loader(cuts: Any, tokenizer: Any, config: DataConfig, sessions: SessionConfig, *, seed: int, train: bool = True,
                         rank: int = 0, world_size: int = 1, states: Any = None) -> Loader:
    """Batches of whole sessions, for training or, in the order of the cuts and of one length, for dev sets.

    Args:
        states: a cache of encoder states that batches carry instead of audio; conditions then have no effect.
        others as `build_train_loader`.

    Raises:
        ValueError: no utterance is left, noise or impulse responses are not there, max_duration is still auto, or options that change
            each utterance for itself.
    """
    single = [name for name, off in (("speed_perturb", [1.0]), ("volume", [1.0, 1.0]), ("noise_prob", 0), ("rir_prob", 0))
              if getattr(config, name) != off]
    if single and train:
        raise ValueError(f"data.{single[0]}: it would change each utterance of a session for itself; data.sessions.condition changes all "
                         "of a session alike (warp, gain, noise, rir, line)")
    condition = sessions.condition if train else sessions.dev_condition
    if condition.any and (states is not None or config.input == "features"):
        logger.warning("data.sessions.condition has no effect on cached states or given features: audio alone is changed")
    if train:
        sampler = SessionSampler(cuts, config, sessions.length, UtteranceFilter(config, tokenizer), seed=seed, rank=rank,
                                 world_size=world_size)
    else:
        seconds = 200.0 if config.max_duration == "auto" else config.max_duration
        fixed = replace(config, shuffle=False, max_duration=seconds)
        sampler = SessionSampler(cuts, fixed, lambda epoch: sessions.dev_utterances, seed=seed, rank=rank, world_size=world_size)
    conditions = Conditions(condition) if condition.any else None
    dataset = SessionDataset(tokenizer, conditions=conditions, input=config.input, states=states, seed=seed,
                             bpe_dropout=config.bpe_dropout if train else 0.0, frames_per_second=config.frames_per_second,
                             fbank_bins=config.fbank_bins)
    return Loader(sampler, dataset, num_workers=config.num_workers, prefetch=config.prefetch, max_failures=config.max_failures)


def speaker_of(cut: Any) -> str:
    """Who speaks in a cut; one whose supervisions name nobody is its own speaker."""
    named = [s.speaker for s in cut.supervisions if s.speaker]
    return str(named[0]) if named else cut.id
