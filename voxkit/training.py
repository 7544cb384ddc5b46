"""From a checked recipe to a Trainer: tokenizer, cuts, model, loaders, cache of encoder states, WER on dev. The one place where data,
models and training meet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxkit import config as configuration
from voxkit import files
from voxkit.batch import Batch
from voxkit.checkpoint.format import read_meta
from voxkit.checkpoint.loading import find_checkpoint
from voxkit.checkpoint.weights import load_state, read_weights
from voxkit.data.cache_shards import index_files
from voxkit.data.loader import build_eval_loader, build_train_loader, largest_batch, longest_seconds
from voxkit.data.sets import lazy_set, read_sets, with_speeds
from voxkit.data.state_cache import StateCache, build_state_cache
from voxkit.encoders.pretrained import PretrainedEncoder
from voxkit.eval.wer import score
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.precision import autocast, dtype_name, resolve
from voxkit.rate import RATE
from voxkit.recipe import Recipe
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.text.vocabulary import Vocabulary, load_vocabulary
from voxkit.train.distributed import World, broadcast, gather, patient_barrier, processes_here
from voxkit.train.loop import FitResult, Trainer
from voxkit.train.probe import SHARE, find_max_duration
from voxkit.train.remedies import split

log = logging.getLogger(__name__)


def check_recipe(recipe: Recipe) -> None:
    """What can be refused before a run is begun: no tokenizer, no sets, or sets whose cuts (the first of each) lack what data.input reads.

    Raises:
        ValueError: names the option.
    """
    config = recipe.config
    data = config.data
    if not config.tokenizer:
        raise ValueError("tokenizer: empty; give the directory that `voxkit tokenize` made, e.g. tokenizer=data/bpe300")
    if not data.train:
        raise ValueError("data.train: empty; name the prepared sets to train on, e.g. data.train=[train-clean-5]")
    for option, entry in [("train", entry) for entry in data.train] + [("dev", entry) for entry in data.dev or []]:
        first = next(iter(lazy_set(data.data_dir, entry)[0]), None)
        if first is None or config.cache:  # stored states are read in place of both
            continue
        if data.input == "features" and not first.has_features:
            raise ValueError(f"data.{option}: {entry} comes without features (data.input is features); set data.input: audio, or fbank")
        if data.input != "features" and first.has_features and not first.has_recording:
            raise ValueError(f"data.{option}: {entry} holds features and no audio, and data.input is {data.input}; "
                             "set data.input: features")


class Training:
    """Everything of one run.

    Args:
        recipe: checked configuration.
        run_dir: where it goes, or the run to continue.
        world: this process among all.
    """

    def __init__(self, recipe: Recipe, run_dir: Path, world: World) -> None:
        check_recipe(recipe)
        config = recipe.config
        self.recipe, self.run_dir, self.world = recipe, run_dir, world
        self.tokenizer = load_vocabulary(config.tokenizer)
        self.model = build_model(recipe, self.tokenizer)
        if hasattr(self.model, "check_training"):
            self.model.check_training()
        if hasattr(self.model, "nbest"):
            self.model.nbest, self.model.word_starts = nbest_tokens, self.tokenizer.word_starts
        train_cuts = read_sets(config.data.data_dir, config.data.train)
        dev_cuts = read_sets(config.data.data_dir, config.data.dev, config.decode.validation_limit) if config.data.dev else None
        self.search = SearchOptions(method=config.decode.validation_method, beam=config.decode.beam)
        if dev_cuts is not None:  # now, and not when the first epoch is over
            try:
                Recognizer(self.model, self.tokenizer).check(self.search)
            except ValueError as error:
                raise ValueError(f"decode.validation_method: {error}") from error
        train_states = dev_states = None
        if config.cache:
            train_states = self._cache(with_speeds(train_cuts, config.data.speed_perturb))
            dev_states = self._cache(dev_cuts) if dev_cuts is not None else None
        if train_states is None:
            self._limit_seconds()
        if config.data.frames_per_second is None:
            config.data.frames_per_second = 1 / self.model.seconds_per_ctc_frame
        if config.data.max_duration == "auto":
            config.data.max_duration = self._largest_duration(train_cuts, train_states)
        self.loader = build_train_loader(train_cuts, self.tokenizer, config.data, seed=config.seed, rank=world.rank,
                                         world_size=world.size, states=train_states)
        self.without_loss: set[str] = set()
        self.dev = None
        if dev_cuts is not None:
            self.dev = build_eval_loader(dev_cuts, self.tokenizer, config.data, rank=world.rank, world_size=world.size, states=dev_states)

    def fit(self) -> FitResult:
        """Train to the end, or to the end of the budget."""
        trainer = Trainer(self.model, self.loader, self.recipe.config.train, self.run_dir, device=self.world.device,
                          validate=self.validate if self.dev is not None else None, save_extra=self.save_extra,
                          extra_meta={"name": self.recipe.config.name, "tokenizer": self.tokenizer.fingerprint(),
                                       "init": self.recipe.config.init, "schedule_offset": getattr(self.model, "schedule_offset", 0)})
        return trainer.fit()

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> dict[str, Any]:
        """Loss per token and WER on dev, of this process's share of it."""
        recognizer = Recognizer(model, self.tokenizer, self.world.device)
        references, hypotheses, loss, weight = {}, {}, 0.0, 0.0
        for batch in self.dev:
            batch = batch.to(self.world.device)
            own_loss, own_weight = self._dev_loss(model, batch)
            loss, weight = loss + own_loss, weight + own_weight
            for id, reference, hypothesis in zip(batch.ids, batch.texts, recognizer.recognize(batch, self.search)):
                references[id], hypotheses[id] = reference, hypothesis.text
        if not references and self.world.size > 1:  # dev has fewer batches than there are processes
            return {"loss": (0.0, 0.0), "wer": (0, 0)}
        result = score(references, hypotheses)
        return {"loss": (loss, weight), "wer": (result.errors, result.words)}

    def _dev_loss(self, model: nn.Module, batch: Batch) -> tuple[float, float]:
        """Sum and weight of the losses of a batch; an utterance with more tokens than CTC can align has none and is named."""
        losses = model.loss(batch)
        loss, weight = float(losses.total * losses.weight), float(losses.weight)
        if abs(loss) < float("inf"):
            return loss, weight
        if batch.size == 1:
            if batch.ids[0] not in self.without_loss:
                log.warning("dev: %s counts in the WER alone, its loss is not finite: more tokens than CTC can align?", batch.ids[0])
            self.without_loss.add(batch.ids[0])
            return 0.0, 0.0
        parts = [self._dev_loss(model, part) for part in split(batch, batch.size)]
        return sum(loss for loss, _ in parts), sum(weight for _, weight in parts)

    def save_extra(self, directory: Path) -> None:
        """What makes a checkpoint describe itself."""
        configuration.save(self.recipe.as_mapping(), directory / "config.yaml")
        self.tokenizer.save(directory / "tokenizer.model")

    def _largest_duration(self, cuts: Any, states: StateCache | None) -> float:
        """`max_duration: auto`: what fits into memory, found by trying; kept in the run, so that it resumes with the same."""
        kept = self.run_dir / "max_duration.txt"
        if kept.is_file():
            return float(kept.read_text())
        config, model = self.recipe.config, self.model.to(self.world.device)
        dtype = resolve(config.train.precision, self.world.device, "train.precision")

        def step(batch: Any) -> None:
            with autocast(dtype, self.world.device):
                loss = model.loss(batch.to(self.world.device)).total
            loss.backward()
            model.zero_grad(set_to_none=True)

        found = find_max_duration(lambda seconds: largest_batch(cuts, self.tokenizer, config.data, seconds, states=states), step,
                                  device=self.world.device, low=max(10.0, longest_seconds(cuts, config.data)),
                                  share=SHARE / (1 if self.world.device.type == "cuda" else processes_here()))
        found = min(broadcast(self.world, found), min(gather(self.world, found)))
        if self.world.main:
            files.write_text(kept, f"{found:.1f}\n")
        log.info("data.max_duration: auto is %.0f s of audio per batch", found)
        return round(found, 1)

    def _limit_seconds(self) -> None:
        """An encoder that takes a limited length (Whisper: 30 s) takes it at the slowest speed: longer utterances would end the run."""
        data, encoder = self.recipe.config.data, getattr(self.model.front_end, "pretrained", None)
        most = encoder.backbone.max_samples / RATE if encoder is not None else 0
        if most and data.max_seconds / min(data.speed_perturb) > most:
            data.max_seconds = most * min(data.speed_perturb)
            log.info("data.max_seconds: %g, for the encoder takes %g s and data.speed_perturb goes down to %g", data.max_seconds, most,
                     min(data.speed_perturb))

    def _cache(self, cuts: Any) -> StateCache:
        config = self.recipe.config
        encoder = getattr(self.model.front_end, "pretrained", None)
        if encoder is None:
            raise ValueError("cache: there is no frozen encoder whose states could be stored; set cache=false for an fbank front end")
        if encoder.config.spec_augment.prob > 0:
            raise ValueError("cache: stored states have no spectrum left for model.front_end.pretrained.spec_augment to mask; set its prob "
                             "to 0, or cache=false")
        directory = Path(config.cache_dir or Path(config.data.data_dir) / "states")
        encoder.to(self.world.device).eval()
        if self.world.main:
            explain_encoding(cuts, encoder, directory)
        with patient_barrier(self.world) as barrier:  # another run may be filling the cache, and this one then waits for its lock
            return build_state_cache(cuts, encoder.encode, directory, encoder.fingerprints(), device=self.world.device,
                                     rank=self.world.rank, world_size=self.world.size, barrier=barrier, encoder=encoder.config.name)


def explain_encoding(cuts: Any, encoder: PretrainedEncoder, directory: Path) -> None:
    """Where a cache holds the cuts' states in another precision only, say so: `dtype: auto` depends on the machine."""
    ids = {cut.id for cut in cuts}
    if not index_files(directory) or ids & StateCache(directory, encoder.fingerprints()).entries.keys():
        return
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        there = len(ids & StateCache(directory, encoder.fingerprints(dtype)).entries.keys())
        if there:
            log.warning("%s holds the states of %d of %d cuts as this encoder gives them in %s, and here it computes in %s "
                        "(model.front_end.pretrained.dtype=%s): they are encoded anew. With dtype=%s this run would read those",
                        directory, there, len(ids), dtype_name(dtype), dtype_name(encoder.compute_dtype()), encoder.config.dtype,
                        dtype_name(dtype))


def nbest_tokens(log_probs: torch.Tensor, lengths: torch.Tensor, count: int) -> list[list[list[int]]]:
    """n-best token lists of CTC prefix beam search, for minimum word error training."""
    return [[h.tokens for h in row] for row in ctc_prefix_beam(log_probs, lengths, max(count, 4), nbest=count, times=False)]


WITHOUT_VOCABULARY = {"front_end", "encoder"}


def build_model(recipe: Recipe, tokenizer: Vocabulary) -> nn.Module:
    """The model that the training of a recipe begins with."""
    model = recipe.build_model(tokenizer.size)
    if recipe.config.init:
        initialise(model, recipe.config.init, tokenizer, recipe.config.init_parts)
    return model


def initialise(model: nn.Module, path: str, tokenizer: Vocabulary, parts: Sequence[str] = ()) -> None:
    """Start from the weights of another run (the stage before): a frozen layer that is open now keeps its pretrained weights.

    Args:
        parts: modules of the model to take, e.g. front_end and encoder, which know no tokens, or front_end.adapter; empty = all.

    Raises:
        ValueError: another tokenizer, weights of another architecture, or a part that one of the two does not have.
    """
    checkpoint = find_checkpoint(path)
    meta = read_meta(checkpoint)
    other = meta.get("tokenizer")
    if other and other != tokenizer.fingerprint() and (not parts or {part.split(".")[0] for part in parts} - WITHOUT_VOCABULARY):
        raise ValueError(f"init: {checkpoint} was trained with another tokenizer ({other}, this one is {tokenizer.fingerprint()}): "
                         "its outputs would mean other pieces; use its tokenizer.model, take only what knows no pieces "
                         "(init_parts=[front_end,encoder]), or start from scratch")
    load_state(model, read_weights(checkpoint, "auto"), set(meta.get("left_out", ())), str(checkpoint), parts)
    if hasattr(model, "schedule_offset") and (not parts or "encoder" in parts):
        model.schedule_offset = int(meta["step"]) + int(meta.get("schedule_offset", 0))
