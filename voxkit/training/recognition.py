"""Validation of a recognizer: loss per token and word error rate on dev, each batch encoded once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch

from voxkit.batch import Batch
from voxkit.eval.wer import score
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.models.contract import Listener, Losses
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World

log = logging.getLogger(__name__)


class Recognition:
    """Loss and WER of this process's share of dev.

    Args:
        setup: its `decode` part says how to search.
        dev: batches with texts and tokens.
    """

    def __init__(self, setup: Setup, vocabulary: Vocabulary, dev: Iterable[Batch], world: World) -> None:
        self.vocabulary, self.dev, self.world = vocabulary, dev, world
        self.search = SearchOptions(method=setup.config.decode.validation_method, beam=setup.config.decode.beam)
        self.without_loss: set[str] = set()

    def check(self, model: Listener) -> None:
        """Refuse now, and not when the first epoch is over.

        Raises:
            ValueError: the model has no such search.
        """
        try:
            Recognizer(model, self.vocabulary).check(self.search)
        except ValueError as error:
            raise ValueError(f"decode.validation_method: {error}") from error

    @torch.inference_mode()
    def __call__(self, model: Listener) -> dict[str, Any]:
        """The model in eval mode → sums over this process's share: loss (nats, tokens), wer (errors, words)."""
        recognizer = Recognizer(model, self.vocabulary, self.world.device)
        references, hypotheses, loss, weight = {}, {}, 0.0, 0.0
        for batch in self.dev:
            batch = batch.to(self.world.device)
            losses, encoded = model.loss_and_states(batch)
            own_loss, own_weight = self._finite(model, batch, losses)
            loss, weight = loss + own_loss, weight + own_weight
            for id, reference, hypothesis in zip(batch.ids, batch.texts or (), recognizer.search(encoded, self.search)):
                references[id], hypotheses[id] = reference, hypothesis.text
        if not references and self.world.size > 1:  # dev has fewer batches than there are processes
            return {"loss": (0.0, 0.0), "wer": (0, 0)}
        result = score(references, hypotheses)
        return {"loss": (loss, weight), "wer": (result.errors, result.words)}

    def _finite(self, model: Listener, batch: Batch, losses: Losses) -> tuple[float, float]:
        """Sum and weight of the losses of a batch; an utterance with more tokens than CTC can align has none and is named."""
        loss, weight = float(losses.total * losses.weight), float(losses.weight)
        if abs(loss) < float("inf"):
            return loss, weight
        if batch.size == 1:
            if batch.ids[0] not in self.without_loss:
                log.warning("dev: %s counts in the WER alone, its loss is not finite: more tokens than CTC can align?", batch.ids[0])
            self.without_loss.add(batch.ids[0])
            return 0.0, 0.0
        parts = [batch.take(slice(i, i + 1)) for i in range(batch.size)]
        found = [self._finite(model, part, model.loss(part)) for part in parts]
        return sum(loss for loss, _ in found), sum(weight for _, weight in found)
