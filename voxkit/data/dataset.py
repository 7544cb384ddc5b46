"""From the cuts of a batch to a Batch: decode, augment, tokenize, pad. What cannot be read is named and left out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from voxkit.audio.fbank import Fbank
from voxkit.batch import Batch, Padded
from voxkit.data.augment import Augment, brief, utterance_rng
from voxkit.data.reader import load_features, load_samples
from voxkit.data.sampler import alignable_frames, needed_frames, text_of
from voxkit.data.state_cache import DamagedStates
from voxkit.rate import RATE


@dataclass
class Plan:
    """A batch to be made: its place in the epoch and its cuts."""

    epoch: int
    index: int
    cuts: list[Any]


@dataclass
class Loaded:
    """What became of a plan: the batch (None where nothing could be read), and why what is missing is missing (id → reason)."""

    index: int
    batch: Batch | None
    failures: dict[str, str] = field(default_factory=dict)
    damaged: Damage | None = None


@dataclass
class Damage:
    """Cached states of some cuts of a plan are damaged: `why` by id. Who has the encoder can restore them and load the plan again."""

    plan: Plan
    why: dict[str, str]


class SpeechDataset(torch.utils.data.Dataset):
    """Plan → Loaded; a map-style dataset whose keys are plans.

    Args:
        tokenizer: with `encode(text) -> list[int]`; None = batches without tokens.
        input: `audio`, `fbank`, or `features` where the cuts come with them.
        augment: changes waveforms; None = none.
        states: a cache of encoder states with `get(cut_id) -> [L, T, D]`; the audio is then not read at all.
        seed: of the augmentation.
        complete: (batch, its cuts, epoch) → the batch with what a system reads besides (prompts, word times).
        fbank_bins: of input: fbank; 0 = 80.
        bpe_dropout: see DataConfig; where the tokens would then be more than CTC can align at `frames_per_second`, they are the usual ones.
    """

    def __init__(self, tokenizer: Any = None, *, input: str = "audio", augment: Augment | None = None, states: Any = None,
                 seed: int = 0, bpe_dropout: float = 0.0, frames_per_second: float | None = None, fbank_bins: int = 0,
                 complete: Callable[[Batch, list[Any], int], Batch] | None = None) -> None:
        self.complete = complete
        self.tokenizer, self.augment, self.states, self.seed = tokenizer, augment, states, seed
        self.bpe_dropout, self.frames_per_second = bpe_dropout, frames_per_second
        self.given = input == "features" and states is None
        self.fbank = Fbank(fbank_bins or 80) if input == "fbank" and states is None else None

    def __getitem__(self, plan: Plan) -> Loaded:
        with _one_thread():
            return self._load(plan)

    def _load(self, plan: Plan) -> Loaded:
        kept, items, failures, damaged = [], [], {}, {}
        for cut in plan.cuts:
            try:
                item = self.item(cut)
            except DamagedStates as error:
                damaged[cut.id] = str(error)
                continue
            except Exception as error:  # whatever a decoder raises: the utterance is named, counted and left out
                failures[cut.id] = brief(error)
                continue
            if self.augment is not None and self.states is None and not self.given:
                changed, missing = self.augment(item.numpy(), utterance_rng(self.seed, plan.epoch, cut.id, "augment"))
                item = torch.from_numpy(changed)
                failures.update(missing)
            kept.append(cut)
            items.append(item)
        if damaged:
            return Loaded(plan.index, None, failures, Damage(plan, damaged))
        return Loaded(plan.index, self.collate(kept, items, plan.epoch) if kept else None, failures)

    def item(self, cut: Any) -> torch.Tensor:
        """Audio [S], features [T, F], or cached states [T, L, D], of one utterance: time first."""
        if self.given:
            return torch.from_numpy(load_features(cut))
        return torch.from_numpy(load_samples(cut)) if self.states is None else self.states.get(cut.id).transpose(0, 1)

    def tokens(self, cut: Any, epoch: int) -> list[int]:
        """The transcript of a cut in pieces, in an epoch."""
        text = text_of(cut)
        if self.bpe_dropout > 0:
            tokens = self.tokenizer.sample(text, self.bpe_dropout, utterance_rng(self.seed, epoch, cut.id, "bpe_dropout"))
            if not self.frames_per_second or needed_frames(tokens) <= alignable_frames(cut.duration, self.frames_per_second):
                return tokens
        return self.tokenizer.encode(text)

    def collate(self, cuts: list[Any], items: list[torch.Tensor], epoch: int = 0) -> Batch:
        """Items of some cuts → Batch."""
        batch = self._collate(cuts, items, epoch)
        return batch if self.complete is None else self.complete(batch, cuts, epoch)

    def _collate(self, cuts: list[Any], items: list[torch.Tensor], epoch: int) -> Batch:
        ids, texts = [cut.id for cut in cuts], [text_of(cut) for cut in cuts]
        tokens = None
        if self.tokenizer is not None:
            tokens = Padded.of([torch.tensor(self.tokens(cut, epoch), dtype=torch.long) for cut in cuts])
        if self.states is not None:
            return Batch(ids, states=pad_states(items), tokens=tokens, texts=texts, seconds=sum(cut.duration for cut in cuts))
        read = Padded.of(items)
        if self.given:
            return Batch(ids, features=read, tokens=tokens, texts=texts, seconds=sum(cut.duration for cut in cuts))
        seconds = float(read.lengths.sum()) / RATE
        if self.fbank is None:
            return Batch(ids, audio=read, tokens=tokens, texts=texts, seconds=seconds)
        features = Padded(*self.fbank(read.values, read.lengths))
        return Batch(ids, features=features, tokens=tokens, texts=texts, seconds=seconds)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small operations wait for each other's threads longer than they take, where other processes want the cores too; and the last bit
    of a sum depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pad_states(items: list[torch.Tensor]) -> Padded:
    """States [T_i, L, D] → [B, max T, L, D], zeros at the ends; in memory each layer is in one piece, as encoders want it."""
    _, layers, dim = items[0].shape
    out = items[0].new_zeros(len(items), layers, max(len(item) for item in items), dim)
    for row, item in zip(out, items):
        row[:, :len(item)] = item.transpose(0, 1)
    return Padded(out.transpose(1, 2), torch.tensor([len(item) for item in items]))
