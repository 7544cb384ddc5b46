"""What data hands to models: one dataclass, one dimension legend.

B batch · S samples at 16 kHz · T frames · F feature bins · L encoder states · D width of a state · U tokens
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass
class Batch:
    """Utterances, padded to the longest. Exactly one of `audio`, `features`, `states` is set, and `lengths` counts its frames.

    Attributes:
        ids: utterance ids, for messages.
        lengths: [B] long, valid samples of `audio` or valid frames of `features` / `states`.
        audio: [B, S] float32, 16 kHz, in [-1, 1].
        features: [B, T, F] float32, log-mel filterbank at 100 frames/s.
        states: [B, L, T, D] states of a frozen encoder, read from the cache (float16, bfloat16 or float32).
        texts: reference transcripts; empty strings where there are none.
        tokens: [B, U] long, padded with 0, no bos or eos.
        token_lengths: [B] long.
        seconds: audio seconds in the batch without padding, for budgets and logs.
    """

    ids: list[str]
    lengths: Tensor
    audio: Tensor | None = None
    features: Tensor | None = None
    states: Tensor | None = None
    texts: list[str] | None = None
    tokens: Tensor | None = None
    token_lengths: Tensor | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.audio, self.features, self.states)) != 1:
            raise ValueError("a Batch holds exactly one of audio, features and states")

    @property
    def size(self) -> int:
        """Number of utterances."""
        return len(self.ids)

    @property
    def input(self) -> Tensor:
        """Whichever of audio, features and states is set."""
        for x in (self.audio, self.features, self.states):
            if x is not None:
                return x
        raise AssertionError("checked at construction")

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with its tensors on `device`."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking)
                 for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **moved)
