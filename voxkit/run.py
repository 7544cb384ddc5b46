"""One training run put together: a system, its data, a trainer. It names no system; voxkit.system and voxkit.training say what is what."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from pathlib import Path

import numpy as np
import torch

from voxkit import config as configuration
from voxkit.checkpoint.runs import latest_run
from voxkit.models.contract import SpeechModel
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary, no_text
from voxkit.train import distributed
from voxkit.train.distributed import World
from voxkit.train.lock import locked
from voxkit.train.logging import RunLog
from voxkit.train.loop import FitResult, Trainer
from voxkit.train.mirror import Mirror
from voxkit.train.run_dir import changed_options, describe_run, new_run_dir
from voxkit.training import EVALUATIONS, READERS, named
from voxkit.training.initialize import initialize


def check_setup(setup: Setup) -> None:
    """What can be refused before a run directory is made.

    Raises:
        ValueError: no tokenizer, no sets, or sets that do not fit; it names the option.
    """
    config = setup.config
    if setup.system.vocabulary is no_text:
        if config.tokenizer:
            raise ValueError(f"tokenizer: {config.tokenizer}: system {config.system} has no text; leave the option out")
    elif not config.tokenizer:
        raise ValueError("tokenizer: empty; give the directory that `voxkit tokenize` made, e.g. tokenizer=data/bpe300")
    if not config.data.train:
        raise ValueError("data.train: empty; name the prepared sets to train on, e.g. data.train=[train-clean-5]")
    named(READERS, setup.system.reader).check(setup)  # type: ignore[attr-defined]


def fresh_model(setup: Setup, vocabulary: Vocabulary) -> SpeechModel:
    """The model that a training begins with."""
    model = setup.build_model(vocabulary)
    if setup.config.init:
        initialize(model, setup.config.init, vocabulary, setup.config.init_parts)
    return model


class Run:
    """Everything of one run.

    Args:
        setup: checked configuration; what is found out about the data (the largest batch, say) is written into it.
        run_dir: where it goes, or the run to continue.
        world: this process among all.

    Attributes:
        model, vocabulary; reader: `.train` and `.dev`; evaluation: model → metrics on dev, None without a dev set.
    """

    def __init__(self, setup: Setup, run_dir: Path, world: World) -> None:
        check_setup(setup)
        system, config = setup.system, setup.config
        self.setup, self.run_dir, self.world = setup, run_dir, world
        self.vocabulary = system.vocabulary(config.tokenizer)
        self.model = fresh_model(setup, self.vocabulary)
        self.model.begin_training(self.vocabulary)
        self.reader = named(READERS, system.reader)(setup, self.model, self.vocabulary, run_dir, world)
        self.evaluation = None
        if self.reader.dev is not None:
            self.evaluation = named(EVALUATIONS, system.evaluation)(setup, self.vocabulary, self.reader.dev, world)
            self.evaluation.check(self.model)
        if not config.train.metric:
            config.train.metric, config.train.mode = system.metric, system.mode

    def fit(self) -> FitResult:
        """Train to the end, or to the end of the budget."""
        config = self.setup.config
        meta = {"name": config.name, "tokenizer": self.vocabulary.fingerprint(), "init": config.init,
                "schedule_offset": self.model.schedule_offset}
        return Trainer(self.model, self.reader.train, config.train, self.run_dir, device=self.world.device, validate=self.evaluation,
                       save_extra=self.save_extra, extra_meta=meta).fit()

    def save_extra(self, directory: Path) -> None:
        """What makes a checkpoint describe itself: its configuration and its vocabulary."""
        configuration.save(self.setup.as_mapping(), directory / "config.yaml")
        self.vocabulary.save(directory)


def train(setup: Setup, *, exp: str | os.PathLike = "exp", run_dir: str | os.PathLike | None = None, fresh: bool = False,
          device: str = "auto") -> tuple[FitResult, Path]:
    """Train a system, or go on with a run that was broken off; with torchrun, in all its processes.

    Args:
        exp: where run directories go, `exp/<date_time>_<name>`; the newest of that name is continued.
        run_dir: exactly this directory instead.
        fresh: a new run even where one could be continued.
        device: auto, cpu or cuda.

    Returns:
        How it ended, and the run directory.

    Raises:
        ValueError: what cannot be trained; it names the option.
    """
    check_setup(setup)
    world = distributed.setup(device)
    try:
        seed = setup.config.seed
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        chosen = _choose_run_dir(setup, Path(exp), run_dir, fresh) if world.main else None
        chosen = distributed.broadcast(world, chosen)
        # The lock: the same training started twice is refused before it writes anything; Trainer.fit takes it again.
        # The log: left-out utterances, the cache, the search for a batch size.
        with locked(chosen) if world.main else contextlib.nullcontext(), contextlib.closing(RunLog(chosen, world.main)):
            run = Run(setup, chosen, world)
            if world.main and (changed := changed_options(chosen, setup.as_mapping())):
                logging.getLogger("voxkit.train").warning(
                    "%s was begun with other options: %s. Steps from here on take the new ones; --name or --fresh begins a run of its own",
                    chosen, ", ".join(changed))
            if world.main:
                describe_run(chosen, setup.as_mapping())
        return run.fit(), chosen
    finally:
        distributed.cleanup()


def _choose_run_dir(setup: Setup, exp: Path, run_dir: str | os.PathLike | None, fresh: bool) -> Path:
    config = setup.config
    if fresh and config.train.mirror and Mirror(config.train.mirror, exp).complete():
        raise ValueError(f"--fresh: {config.train.mirror} holds checkpoints of an earlier run, which this one would go on from; give it "
                         "another train.mirror")
    if run_dir is not None:
        return Path(run_dir)
    return (None if fresh else latest_run(exp, config.name)) or new_run_dir(exp, config.name)
