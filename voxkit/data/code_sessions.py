"""Codes as training sequences: utterances of one speaker joined to sessions of so many seconds, in batches of like length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from voxkit.batch import Batch, Padded
from voxkit.data.augment import utterance_rng


class CodeSessions:
    """Batches of sessions.

    Args:
        codes: utterance id → [T, Q]; speakers: utterance id → who speaks.
        frame_rate: frames per second.
        seconds: of a session, in each epoch; the last number stays. Utterances of a speaker are joined, in a random order that is another
            in each epoch, and cut to sessions of that length; the rest of a speaker is a shorter session. 0: utterances alone.
        max_seconds: of a batch, padding included.
        shuffle: False joins in the order given, for dev sets.
        rank, world_size: this process's share of the batches.

    Raises:
        ValueError: there is nothing.
    """

    def __init__(self, codes: Mapping[str, Tensor], speakers: Mapping[str, str], *, frame_rate: float, seconds: Sequence[float],
                 max_seconds: float, seed: int = 0, shuffle: bool = True, rank: int = 0, world_size: int = 1) -> None:
        if not codes:
            raise ValueError("no utterance to train on; the sets are empty")
        self.codes, self.frame_rate, self.seconds, self.max_seconds = codes, frame_rate, list(seconds), max_seconds
        self.seed, self.shuffle, self.rank, self.world_size = seed, shuffle, rank, world_size
        self.by_speaker: dict[str, list[str]] = {}
        for id in codes:
            self.by_speaker.setdefault(speakers[id], []).append(id)
        self.epoch = self.position = 0

    def sessions(self, epoch: int) -> list[tuple[str, Tensor]]:
        """(name, codes [T, Q]) of an epoch."""
        limit = self.seconds[min(epoch, len(self.seconds) - 1)]
        found = []
        for speaker, ids in self.by_speaker.items():
            order = list(ids)
            if self.shuffle:
                utterance_rng(self.seed, epoch, speaker, "order").shuffle(order)
            if not limit:
                found += [(id, self.codes[id]) for id in order]
                continue
            joined, size = torch.cat([self.codes[id] for id in order]), round(limit * self.frame_rate)
            found += [(f"{speaker}/{epoch}/{at // size}", joined[at:at + size]) for at in range(0, len(joined), size)]
        return found

    def groups(self, epoch: int) -> list[list[tuple[str, Tensor]]]:
        """The sessions of each batch of all processes."""
        sessions = sorted(self.sessions(epoch), key=lambda one: len(one[1]))
        groups: list[list[tuple[str, Tensor]]] = []
        for one in sessions:
            if not groups or (len(groups[-1]) + 1) * len(one[1]) > self.max_seconds * self.frame_rate:
                groups.append([])
            groups[-1].append(one)
        if self.shuffle:
            utterance_rng(self.seed, epoch, "", "batches").shuffle(groups)
        return groups + groups[:-len(groups) % self.world_size] if self.shuffle else groups

    def __len__(self) -> int:
        """Batches of the current epoch for this process."""
        return len(range(self.rank, len(self.groups(self.epoch)), self.world_size))

    def __iter__(self) -> Iterator[Batch]:
        groups = self.groups(self.epoch)[self.rank::self.world_size]
        start, self.position = self.position, 0
        for n in range(start, len(groups)):
            self.position = n + 1
            names = [name for name, _ in groups[n]]
            yield Batch(names, codes=Padded.of([codes.long() for _, codes in groups[n]]), sessions=names,
                        seconds=sum(len(codes) for _, codes in groups[n]) / self.frame_rate)
        self.position = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch; the current one again changes nothing."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, object]:
        """Epoch, batches given out, and what the data are."""
        return {"epoch": self.epoch, "position": self.position, "fingerprint": self._fingerprint()}

    def load_state_dict(self, state: dict) -> None:
        """Continue there.

        Raises:
            ValueError: the data are others.
        """
        if state.get("fingerprint", self._fingerprint()) != self._fingerprint():
            raise ValueError("the codes are not those this run was begun with: begin another run (--fresh), or give the old sets and codec")
        self.epoch, self.position = state["epoch"], state["position"]

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps([self.seconds, self.max_seconds, self.seed, self.world_size]).encode())
        for id, codes in self.codes.items():
            digest.update(id.encode() + codes.numpy().tobytes())
        return digest.hexdigest()[:16]
