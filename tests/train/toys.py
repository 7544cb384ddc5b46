"""A tiny model and loader for the tests of training: in one file that spawned processes can import."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.batch import Batch, Padded
from voxkit.checkpoint.external import External
from voxkit.hub import Source
from voxkit.models.contract import Losses
from voxkit.train.config import OptimizerConfig, ScheduleConfig, TrainConfig


class TinyModel(nn.Module):
    """Regression of each utterance's first token from the mean of its frames, with dropout so that generators matter."""

    def __init__(self, dim: int = 4, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(dim, 8), nn.Tanh(), nn.Dropout(dropout))
        self.head = nn.Linear(8, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def loss(self, batch: Batch) -> Losses:
        if self.training:
            self.seen += batch.size
        features, lengths = batch.features.values, batch.features.lengths
        mask = torch.arange(features.shape[1]) < lengths[:, None]
        mean = (features * mask[..., None]).sum(1) / lengths[:, None]
        error = (self.head(self.body(mean)).squeeze(-1).float() - batch.tokens.values[:, 0]) ** 2
        return Losses(error.mean(), torch.tensor(batch.size), {"absolute": error.detach().sqrt().mean()})


class Pretrained(External):
    """Two layers from elsewhere, some of them frozen."""

    def __init__(self, frozen: tuple[int, ...]) -> None:
        super().__init__(Source("somewhere/encoder"))
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        for layer in frozen:
            self.layers[layer].requires_grad_(False)


class WithFrozenPart(TinyModel):
    """A pretrained part of which some may be frozen; every copy has the same pretrained weights."""

    def __init__(self, frozen: tuple[int, ...] = (0, 1), seed: int = 5) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.pretrained = Pretrained(frozen)


class TinyLoader:
    """Shuffled batches whose features are drawn from Python's generator: a loader with exact positions.

    Args:
        shard: (rank, size): this process's utterances of every batch.
    """

    def __init__(self, batches: int = 7, size: int = 4, seed: int = 0, shard: tuple[int, int] = (0, 1), uneven: int = 0) -> None:
        self.batches, self.size, self.seed, self.shard, self.uneven = batches, size, seed, shard, uneven
        self.epoch = self.position = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def __len__(self) -> int:
        return self.batches

    def __iter__(self):
        rank, world = self.shard
        while self.position < self.batches - (self.uneven if rank else 0):
            batch = self.make(self.position)
            self.position += 1
            if world > 1:
                # Shares of different sizes: the weighting has to be right.
                border = 1 + batch.size // 2
                batch = batch.take(slice(0, border) if rank == 0 else slice(border, batch.size))
            yield batch

    def make(self, index: int) -> Batch:
        draw = random.Random(f"{self.seed}-{self.epoch}-{index}")
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        lengths = torch.randint(3, 9, (self.size,), generator=generator)
        features = torch.randn(self.size, int(lengths.max()), 4, generator=generator)
        tokens = (features.sum((1, 2)) > 0).long()[:, None]
        return Batch(ids=[f"u{self.epoch}-{index}-{i}" for i in range(self.size)], features=Padded(features, lengths),
                     tokens=Padded(tokens, torch.ones(self.size, dtype=torch.long)), texts=[""] * self.size,
                     seconds=float(lengths.sum()) / 100)


def tiny_config(**changes: Any) -> TrainConfig:
    """Three epochs without noise in the log."""
    values: dict[str, Any] = {"epochs": 3, "optimizer": OptimizerConfig(lr=0.01), "schedule": ScheduleConfig(warmup_steps=3),
                              "log_every": 5, "checkpoint_every": 4, "metric": "error"}
    return TrainConfig(**{**values, **changes})


def tiny_trainer(run_dir: Path, config: TrainConfig | None = None, *, model: nn.Module | None = None, loader: Any = None,
                 seed: int = 1, losses: list | None = None, **more: Any):
    """A Trainer over the toys; `losses` collects (step, loss)."""
    from voxkit.train.loop import Trainer

    torch.manual_seed(seed)
    random.seed(seed)
    model = model if model is not None else TinyModel()
    more.setdefault("validate", lambda m: {"error": float(sum(p.abs().sum() for p in m.parameters()))})
    more.setdefault("tensorboard", False)
    on_step = (lambda step, values: losses.append((step, values["loss"]))) if losses is not None else None
    return Trainer(model, loader if loader is not None else TinyLoader(), config or tiny_config(), run_dir, on_step=on_step, **more)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
