"""Reader of systems that learn from speech: sets, cache of encoder states, the largest batch that fits, loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from voxkit import files
from voxkit.batch import Batch
from voxkit.data.cache_shards import index_files
from voxkit.data.coverage import check_coverage
from voxkit.data.loader import Loader, build_eval_loader, build_train_loader, largest_batch, longest_seconds
from voxkit.data.sets import lazy_set, read_sets, with_speeds
from voxkit.data.state_cache import StateCache, build_state_cache
from voxkit.encoders.pretrained import PretrainedEncoder, pretrained_encoder
from voxkit.models.contract import Listener
from voxkit.precision import autocast, dtype_name, resolve
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World, broadcast, gather, patient_barrier, processes_here
from voxkit.train.probe import SHARE, find_max_duration

log = logging.getLogger(__name__)


class SpeechReader:
    """data.train and data.dev → batches of audio, features or cached states, with tokens.

    Attributes:
        train, dev: loaders; dev is None where no set is named.

    Raises:
        ValueError: a set that is not there, or what `check` refuses.
    """

    def __init__(self, setup: Setup, model: Listener, vocabulary: Vocabulary, run_dir: Path, world: World) -> None:
        config, data = setup.config, setup.config.data
        self.setup, self.model, self.vocabulary, self.run_dir, self.world = setup, model, vocabulary, run_dir, world
        train_cuts = read_sets(data.data_dir, data.train)
        dev_cuts = read_sets(data.data_dir, data.dev, config.decode.validation_limit) if data.dev else None
        for cuts, option in ((train_cuts, "data.train"), (dev_cuts or [], "data.dev")):
            check_coverage(cuts, vocabulary, option)
        train_states = dev_states = None
        if config.cache:
            train_states = self._cache(with_speeds(train_cuts, data.speed_perturb))
            dev_states = self._cache(dev_cuts) if dev_cuts is not None else None
        if train_states is None:
            self._limit_seconds()
        if data.frames_per_second is None:
            data.frames_per_second = 1 / model.seconds_per_frame
        if data.max_duration == "auto":
            data.max_duration = self._largest_duration(train_cuts, train_states)
        self.train = self._train_loader(train_cuts, train_states)
        self.dev = self._dev_loader(dev_cuts, dev_states) if dev_cuts is not None else None

    def completion(self, training: bool) -> Callable[[Batch, list[Any], int], Batch] | None:
        """What adds to a batch what a system reads besides (`SpeechDataset`); None: nothing."""
        return None

    def _train_loader(self, cuts: Any, states: StateCache | None) -> Loader:
        config, world = self.setup.config, self.world
        return build_train_loader(cuts, self.vocabulary, config.data, seed=config.seed, rank=world.rank, world_size=world.size,
                                  states=states, complete=self.completion(training=True))

    def _dev_loader(self, cuts: Any, states: StateCache | None) -> Loader:
        data, world = self.setup.config.data, self.world
        return build_eval_loader(cuts, self.vocabulary, data, rank=world.rank, world_size=world.size, states=states,
                                 complete=self.completion(training=False))

    @staticmethod
    def check(setup: Setup) -> None:
        """Refuse before the run is begun sets that are empty, or whose cuts (the first of each) lack what data.input reads.

        Raises:
            ValueError: names the option.
        """
        data = setup.config.data
        if data.input == "text":
            raise ValueError(f"data.input: text teaches {setup.config.system} nothing without audio; set it to audio")
        for option, entry in [("train", entry) for entry in data.train] + [("dev", entry) for entry in data.dev or []]:
            first = next(iter(lazy_set(data.data_dir, entry)[0]), None)
            if first is None:
                raise ValueError(f"data.{option}: {entry} holds no utterance; prepare it anew, or name another set")
            if setup.config.cache:  # stored states are read in place of both
                continue
            if data.input == "features" and not first.has_features:
                raise ValueError(f"data.{option}: {entry} comes without features (data.input is features); set data.input: audio, or fbank")
            if data.input != "features" and first.has_features and not first.has_recording:
                raise ValueError(f"data.{option}: {entry} holds features and no audio, and data.input is {data.input}; "
                                 "set data.input: features")

    def _largest_duration(self, cuts: Any, states: StateCache | None) -> float:
        """`max_duration: auto`: what fits into memory, found by trying; kept in the run, so that it resumes with the same."""
        kept = self.run_dir / "max_duration.txt"
        if kept.is_file():
            return float(kept.read_text())
        config, model = self.setup.config, self.model.to(self.world.device)
        dtype = resolve(config.train.precision, self.world.device, "train.precision")

        def step(batch: Any) -> None:
            with autocast(dtype, self.world.device):
                loss = model.loss(batch.to(self.world.device)).total
            loss.backward()
            model.zero_grad(set_to_none=True)

        found = find_max_duration(lambda seconds: largest_batch(cuts, self.vocabulary, config.data, seconds, states=states), step,
                                  device=self.world.device, low=max(10.0, longest_seconds(cuts, config.data)),
                                  share=SHARE / (1 if self.world.device.type == "cuda" else processes_here()))
        found = min(broadcast(self.world, found), min(gather(self.world, found)))
        if self.world.main:
            files.write_text(kept, f"{found:.1f}\n")
        log.info("data.max_duration: auto is %.0f s of audio per batch", found)
        return round(found, 1)

    def _limit_seconds(self) -> None:
        """An encoder that takes a limited length (Whisper: 30 s) takes it at the slowest speed: longer utterances would end the run."""
        data, most = self.setup.config.data, self.model.max_seconds
        if most and data.max_seconds / min(data.speed_perturb) > most:
            data.max_seconds = most * min(data.speed_perturb)
            log.info("data.max_seconds: %g, for the encoder takes %g s and data.speed_perturb goes down to %g", data.max_seconds, most,
                     min(data.speed_perturb))

    def _cache(self, cuts: Any) -> StateCache:
        config, encoder = self.setup.config, pretrained_encoder(self.model)
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
