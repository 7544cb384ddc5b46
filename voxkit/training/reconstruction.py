"""Validation of a codec: its loss on dev, how much of each book is used, and what the codes take if their frequencies are known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from voxkit.batch import Batch
from voxkit.codecs.usage import book_counts, book_entropy
from voxkit.models.codec import CodecModel
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World, reduce


class Reconstruction:
    """Loss per frame, the parts of it, perplexity of the books and bits per second.

    Args:
        dev: batches with audio, this process's share of them.
    """

    def __init__(self, setup: Setup, vocabulary: Vocabulary, dev: Iterable[Batch], world: World) -> None:
        self.dev, self.world = dev, world

    def check(self, model: CodecModel) -> None:
        """Every codec has a loss: nothing is refused."""

    @torch.inference_mode()
    def __call__(self, model: CodecModel) -> dict[str, Any]:
        """The model in eval mode → loss and its parts (sums and frames of this process's share); perplexity (of the least used book, by its
        size) and kbit/s by entropy over all."""
        codec, weight = model.codec, 0.0
        sums: dict[str, float] = {}
        counts = torch.zeros(codec.codebooks, codec.size)
        for batch in self.dev:
            batch = batch.to(self.world.device)
            losses = model.loss(batch)
            weight += float(losses.weight)
            for name, value in {"loss": losses.total, **losses.parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value * losses.weight)
            assert batch.audio is not None
            codes = codec.encode(batch.audio)
            counts += book_counts(codes.values, codes.lengths, codec.size)
        every = torch.tensor(reduce(self.world, counts.flatten().tolist())).view_as(counts)
        bits = book_entropy(every)
        return {**{name: (value, weight) for name, value in sums.items()}, "least_perplexity": float((2**bits).min()) / codec.size,
                "kbit_per_second": float(bits.sum()) * codec.frame_rate / 1000}
