"""Text alone as training data: sentences out of text files or out of the transcripts of prepared sets, in batches of like length."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from voxkit.batch import Batch, Padded
from voxkit.data.sets import named_set
from voxkit.files import read_lines


def read_sentences(data_dir: str, entries: Iterable[str]) -> list[str]:
    """The sentences of several sources; empty ones are left out.

    Args:
        data_dir: where prepared sets are.
        entries: each a text file (one sentence a line, `.gz` too), or what `data.sets.named_set` takes: a prepared set, or cuts.

    Raises:
        ValueError: a source that is not there, is in another encoding, or holds nothing.
    """
    out: list[str] = []
    for entry in entries:
        lines = read_lines(entry) if _is_text(entry) else [_transcript(cut) for cut in named_set(data_dir, entry)]
        found = [line for line in (" ".join(line.split()) for line in lines) if line]
        if not found:
            raise ValueError(f"{entry}: no text in it; a language model cannot be trained on nothing")
        out += found
    return out


def _is_text(entry: str) -> bool:
    return Path(entry).is_file() and not entry.endswith((".jsonl", ".jsonl.gz"))


def _transcript(cut: Any) -> str:
    return " ".join(s.text for s in cut.supervisions if s.text)


class SentenceLoader:
    """Batches of sentences of like length, in an order that epoch and seed decide; continues exactly.

    Args:
        sentences: token ids of each; empty ones are left out.
        tokens: about so many per batch, begin and end of sentence counted.
        rank, world_size: this process's share of the batches.

    Raises:
        ValueError: there is no sentence.
    """

    def __init__(self, sentences: Iterable[Sequence[int]], *, tokens: int = 1000, seed: int = 0, shuffle: bool = True, rank: int = 0,
                 world_size: int = 1) -> None:
        self.sentences = sorted((list(s) for s in sentences if len(s)), key=len)
        if not self.sentences:
            raise ValueError("the text is empty: a language model cannot be trained on nothing")
        self.seed, self.shuffle, self.rank, self.world_size = seed, shuffle, rank, world_size
        self.epoch = self.position = 0
        self.groups: list[list[int]] = [[]]
        for i, sentence in enumerate(self.sentences):
            if self.groups[-1] and (len(self.groups[-1]) + 1) * (len(sentence) + 1) > tokens:
                self.groups.append([])
            self.groups[-1].append(i)

    def __len__(self) -> int:
        return len(range(self.rank, len(self.groups), self.world_size))

    def __iter__(self) -> Iterator[Batch]:
        order = list(range(len(self.groups)))
        if self.shuffle:
            random.Random(self.seed * 1009 + self.epoch).shuffle(order)
        order = order[self.rank::self.world_size]
        start, self.position = self.position, 0
        for n in range(start, len(order)):
            self.position = n + 1
            group = self.groups[order[n]]
            yield Batch([str(i) for i in group], tokens=Padded.of([torch.tensor(self.sentences[i]) for i in group]))
        self.position = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch; the current one again changes nothing."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Epoch, batches given out, and what the text is."""
        return {"epoch": self.epoch, "position": self.position, "fingerprint": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there.

        Raises:
            ValueError: the text is another.
        """
        if state.get("fingerprint", self._fingerprint()) != self._fingerprint():
            raise ValueError("the text is not the one this run was begun with: begin another run (--fresh), or give the old text")
        self.epoch, self.position = state["epoch"], state["position"]

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{len(self.groups)} {self.world_size}".encode())
        for sentence in self.sentences:
            digest.update(" ".join(map(str, sentence)).encode() + b"\n")
        return digest.hexdigest()[:16]
