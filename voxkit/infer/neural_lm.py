"""Training a neural language model over a tokenizer's pieces, and loading it as a scorer of searches."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Sequence

import torch

from voxkit import config as configuration
from voxkit.batch import Batch, Padded
from voxkit.checkpoint.folder import resolve
from voxkit.checkpoint.format import read_meta
from voxkit.checkpoint.runs import latest_run
from voxkit.checkpoint.weights import load_model_weights
from voxkit.models.token_lm import TokenLM, TokenLMConfig
from voxkit.search.recurrent_scorer import RecurrentScorer
from voxkit.search.scorer import NeuralScorer, Scorer
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.config import AverageConfig, OptimiserConfig, ScheduleConfig, TrainConfig
from voxkit.train.loop import FitResult, Trainer
from voxkit.train.run_dir import describe_run


class SentenceLoader:
    """Batches of sentences of like length, in an order that epoch and seed decide; a Trainer's loader.

    Args:
        sentences: token ids of each; tokens: about so many per batch.
    """

    def __init__(self, sentences: Sequence[Sequence[int]], tokens: int = 1000, seed: int = 0, shuffle: bool = True) -> None:
        self.sentences = sorted((list(s) for s in sentences if len(s)), key=len)
        if not self.sentences:
            raise ValueError("the text is empty: a language model cannot be trained on nothing")
        self.seed, self.shuffle, self.epoch, self.position = seed, shuffle, 0, 0
        self.groups: list[list[int]] = [[]]
        for i, sentence in enumerate(self.sentences):
            if self.groups[-1] and (len(self.groups[-1]) + 1) * (len(sentence) + 1) > tokens:
                self.groups.append([])
            self.groups[-1].append(i)

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        order = list(range(len(self.groups)))
        if self.shuffle:
            random.Random(self.seed * 1009 + self.epoch).shuffle(order)
        start, self.position = self.position, 0
        for n in range(start, len(order)):
            self.position = n + 1
            rows = [self.sentences[i] for i in self.groups[order[n]]]
            yield Batch([str(i) for i in self.groups[order[n]]], tokens=Padded.of([torch.tensor(row) for row in rows]))
        self.position = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches given out."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        self.epoch, self.position = state["epoch"], state["position"]


def train_neural_lm(texts: Sequence[str], dev: Sequence[str], tokenizer: Vocabulary, config: TokenLMConfig, out: str | os.PathLike, *,
                    epochs: int = 20, lr: float = 1e-3, seed: int = 0, device: str | torch.device = "cpu") -> FitResult:
    """Train into the run directory `out`; a run there is continued. The best checkpoint is that of the least perplexity on dev."""
    torch.manual_seed(seed)
    config.vocab_size = tokenizer.size
    model, out = TokenLM(config), Path(out)
    loader = SentenceLoader([tokenizer.encode(t) for t in texts], seed=seed)
    held = SentenceLoader([tokenizer.encode(t) for t in dev], shuffle=False)
    warm_up = max(1, min(100, epochs * len(loader) // 10))
    train = TrainConfig(epochs=epochs, optimiser=OptimiserConfig(lr=lr), schedule=ScheduleConfig(warmup_steps=warm_up), precision="fp32",
                        clip_grad=1.0, keep_best=1, keep_last=1, metric="perplexity", average=AverageConfig(best=0))

    @torch.inference_mode()
    def validate(m: Any) -> dict[str, Any]:
        total = weight = 0.0
        for batch in held:
            losses = m.loss(batch.to(device))
            total, weight = total + float(losses.total * losses.weight), weight + float(losses.weight)
        return {"loss": (total, weight), "perplexity": math.exp(total / weight)}

    def save_extra(directory: Path) -> None:
        configuration.save({"language_model": vars(config)}, directory / "config.yaml")
        tokenizer.save(directory / "tokenizer.model")

    out.mkdir(parents=True, exist_ok=True)
    describe_run(out, {"language_model": vars(config), "epochs": epochs, "lr": lr, "seed": seed})
    return Trainer(model, loader, train, out, device=device, validate=validate, save_extra=save_extra,
                   extra_meta={"tokenizer": tokenizer.fingerprint()}).fit()


def load_neural_lm(path: str | os.PathLike, tokenizer: Vocabulary, device: torch.device | str = "cpu") -> Scorer:
    """A trained one as a scorer.

    Raises:
        ValueError: no language model there, or one over other tokens.
    """
    path = Path(path)
    checkpoint = resolve(path if path.exists() else latest_run(path.parent, path.name) or path)
    node = configuration.load(checkpoint / "config.yaml")
    if "language_model" not in node:
        raise ValueError(f"{checkpoint}: not a language model; `voxkit lm train-neural` makes one")
    found = read_meta(checkpoint).get("tokenizer")
    if found != tokenizer.fingerprint():
        raise ValueError(f"{checkpoint} is over other tokens ({found}) than the recogniser's ({tokenizer.fingerprint()}): train one with "
                         "`voxkit lm train-neural --tokenizer` on this tokenizer")
    model = TokenLM(configuration.structure(TokenLMConfig, node.language_model, f"{checkpoint}/config.yaml"))
    load_model_weights(model, checkpoint)
    model = model.to(device).eval()
    kind, ask = (RecurrentScorer, model.advance) if model.config.kind == "lstm" else (NeuralScorer, model.next_log_probs)
    return kind(ask, model.bos, model.eos)
