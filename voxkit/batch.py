"""What data hands to models: padded tensors and what belongs to them, one dimension legend.

B batch · S samples at 16 kHz · T frames · F feature bins · L encoder states · D width of a state · Q codebooks · U tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from voxkit.rate import RATE

_INPUTS = ("audio", "features", "states", "codes", "tokens")


@dataclass(frozen=True)
class Padded:
    """Sequences of several lengths in one tensor, time first.

    Attributes:
        values: [B, N, ...]; what lies past a length is padding and means nothing.
        lengths: [B] long.
    """

    values: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, items: Sequence[Tensor]) -> Padded:
        """Tensors [N_i, ...] → [B, max N, ...], zeros at the ends."""
        values = items[0].new_zeros(len(items), max(len(item) for item in items), *items[0].shape[1:])
        for row, item in zip(values, items):
            row[:len(item)] = item
        return cls(values, torch.tensor([len(item) for item in items], device=values.device))

    @property
    def size(self) -> int:
        """Number of sequences."""
        return len(self.lengths)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Padded:
        """The same on `device`."""
        return Padded(self.values.to(device, non_blocking=non_blocking), self.lengths.to(device, non_blocking=non_blocking))

    def take(self, rows: slice) -> Padded:
        """Some of the sequences, padded to the longest of them."""
        lengths = self.lengths[rows]
        return Padded(self.values[rows, :int(lengths.max())], lengths)

    def repeat(self, times: int) -> Padded:
        """All sequences again and again, [times · B, N, ...]."""
        return Padded(self.values.repeat(times, *[1] * (self.values.ndim - 1)), self.lengths.repeat(times))


class Counts(NamedTuple):
    """How much a batch holds: utterances and tokens of their transcripts."""

    utterances: float
    tokens: float


@dataclass
class Batch:
    """Utterances. A model reads what it was made for, and refuses a batch without it.

    Attributes:
        ids: utterance ids, for messages.
        audio: [B, S] float32, 16 kHz, in [-1, 1].
        features: [B, T, F] float32, log-mel filterbank at 100 frames/s.
        states: [B, T, L, D] states of a frozen encoder, read from the cache (float16, bfloat16 or float32).
        codes: [B, T, Q] long, of a codec.
        tokens: [B, U] long, of the transcripts, no bos or eos.
        prompt: [B, U] long, what an instruction says before the answer.
        spans: [B, U, 2] seconds, where the word that each token belongs to begins and ends; NaN where that is not known.
        texts: reference transcripts; empty strings where there are none.
        sessions: to which session each utterance belongs, for models that carry state from one to the next.
        seconds: audio seconds in the batch without padding, for budgets and logs.
        whole: of the large batch that this is a part of, where an optimizer step is over several; a loss whose parts are means over
            different units weighs them by it. None = this is all.
    """

    ids: list[str]
    audio: Padded | None = None
    features: Padded | None = None
    states: Padded | None = None
    codes: Padded | None = None
    tokens: Padded | None = None
    prompt: Padded | None = None
    spans: Padded | None = None
    texts: list[str] | None = None
    sessions: list[str] | None = None
    seconds: float = 0.0
    whole: Counts | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in _INPUTS):
            raise ValueError(f"a Batch holds at least one of {', '.join(_INPUTS)}")

    @property
    def size(self) -> int:
        """Number of utterances."""
        return len(self.ids)

    @property
    def input(self) -> Padded:
        """What is read: audio, else features, states, codes, tokens."""
        for name in _INPUTS:
            if (found := getattr(self, name)) is not None:
                return found
        raise AssertionError("checked at construction")

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(self, **{name: value.to(device, non_blocking) for name, value in self._padded().items()})

    def take(self, rows: slice) -> Batch:
        """Some of the utterances, each field padded to the longest that is left."""
        ids = self.ids[rows]
        lists = {name: getattr(self, name)[rows] for name in ("texts", "sessions") if getattr(self, name) is not None}
        return replace(self, ids=ids, seconds=self.seconds * len(ids) / self.size, **lists,
                       **{name: value.take(rows) for name, value in self._padded().items()})

    def _padded(self) -> dict[str, Any]:
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Padded)}


def audio_batch(wave: Tensor, id: str = "audio") -> Batch:
    """One waveform [S] at 16 kHz as a batch."""
    return Batch([id], audio=Padded(wave[None], torch.tensor([len(wave)])), seconds=len(wave) / RATE)


def turns(sessions: list[str]) -> list[list[int]]:
    """Which rows of a batch are heard together: the first utterance of every session, then the second of those that have one, ..."""
    order: dict[str, list[int]] = {}
    for row, session in enumerate(sessions):
        order.setdefault(session, []).append(row)
    return [[rows[turn] for rows in order.values() if turn < len(rows)] for turn in range(max(map(len, order.values()), default=0))]
