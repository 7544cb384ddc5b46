"""What the tests of the loader share: a tokenizer, the options, states, and when batches are the same."""

from __future__ import annotations

from dataclasses import fields

import torch

from voxkit.batch import Batch, Padded
from voxkit.data.config import DataConfig

NUM = 60


class Letters:
    """A tokenizer: one token per letter."""

    def encode(self, text: str) -> list[int]:
        return [ord(c) - 60 for c in text]


class Cache:
    """Stands for a StateCache: 2 layers of 3 dimensions, as long as the id's number, filled with 1000 x the speed."""

    def get(self, cut_id):
        if cut_id.startswith("u03"):
            raise KeyError(f"no cached states of cut {cut_id}")
        name, _, speed = cut_id.partition("_sp")
        return torch.full((2, 5 + int(name[1:]), 3), float(speed or 1) * 1000)


def everything(root, **changes) -> DataConfig:
    values = {"max_duration": 8.0, "num_buckets": 4, "num_workers": 0, "frames_per_second": 25.0, "speed_perturb": [0.9, 1.0, 1.1],
              "noise": str(root / "noise"), "noise_prob": 0.6, "rir": str(root / "rir"), "rir_prob": 0.5, "volume": [0.5, 2.0]}
    return DataConfig(**{**values, **changes})


def same(a: list[Batch], b: list[Batch]) -> bool:
    def equal(x, y):
        if isinstance(x, Padded):
            return x.values.equal(y.values) and x.lengths.equal(y.lengths)
        return x == y

    return len(a) == len(b) and all(equal(getattr(x, f.name), getattr(y, f.name)) for x, y in zip(a, b) for f in fields(Batch))
