"""Validation of a language model: loss and perplexity per token on dev."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from voxkit.batch import Batch
from voxkit.models.contract import SpeechModel
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World, reduce


class Perplexity:
    """Loss in nats per token, and its exponential.

    Args:
        dev: batches with tokens, this process's share of them.
    """

    def __init__(self, setup: Setup, vocabulary: Vocabulary, dev: Iterable[Batch], world: World) -> None:
        self.dev, self.world = dev, world

    def check(self, model: SpeechModel) -> None:
        """Every model with a loss has a perplexity: nothing is refused."""

    @torch.inference_mode()
    def __call__(self, model: SpeechModel) -> dict[str, Any]:
        """The model in eval mode → loss (nats, tokens) of this process's share, perplexity over all."""
        loss = weight = 0.0
        for batch in self.dev:
            losses = model.loss(batch.to(self.world.device))
            loss, weight = loss + float(losses.total * losses.weight), weight + float(losses.weight)
        total, count = reduce(self.world, [loss, weight])
        return {"loss": (loss, weight), "perplexity": math.exp(total / count)}
