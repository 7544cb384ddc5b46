"""Reader of systems that learn from audio alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from voxkit.data.loader import build_eval_loader, build_train_loader, cuts_on_disk
from voxkit.data.sets import read_sets
from voxkit.models.codec import CodecModel
from voxkit.run_config import Setup
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.distributed import World
from voxkit.training.speech import SpeechReader


class AudioReader:
    """data.train and data.dev → batches of audio, no tokens. Training audio longer than data.max_seconds is cut into equal pieces.

    Attributes:
        train, dev: loaders; dev is None where no set is named.

    Raises:
        ValueError: a set that is not there, or what `check` refuses.
    """

    def __init__(self, setup: Setup, model: CodecModel, vocabulary: Vocabulary, run_dir: Path, world: World) -> None:
        config, data = setup.config, setup.config.data
        cuts = cut_up(read_sets(data.data_dir, data.train), data.max_seconds)
        self.train = build_train_loader(cuts, None, data, seed=config.seed, rank=world.rank, world_size=world.size)
        if not (run_dir / "checkpoints").is_dir():  # a run that goes on brings its books along
            model.begin_on_data(iter(self.train))
            self.train.set_epoch(1), self.train.set_epoch(0)  # from the beginning again
        self.dev = None
        if data.dev:
            cuts = read_sets(data.data_dir, data.dev, config.decode.validation_limit)
            self.dev = build_eval_loader(cuts, None, data, rank=world.rank, world_size=world.size)

    @staticmethod
    def check(setup: Setup) -> None:
        """Refuse before the run is begun what is no audio, and a batch size that would have to be tried.

        Raises:
            ValueError: names the option.
        """
        data = setup.config.data
        if data.input != "audio":
            raise ValueError(f"data.input: {data.input}: system {setup.config.system} learns from samples; set it to audio")
        if data.max_duration == "auto":
            raise ValueError(f"data.max_duration: auto is not found out for system {setup.config.system}; give seconds, for example 60")
        SpeechReader.check(setup)


def cut_up(cuts: Any, seconds: float) -> Any:
    """Cuts with none longer than so many seconds, each longer one in equal pieces; of sets that stay on disk the long cuts are left out."""
    if cuts_on_disk(cuts):
        return cuts
    from lhotse import CutSet

    def pieces(cut: Any) -> list[Any]:
        count = math.ceil(cut.duration / seconds)
        if count == 1:
            return [cut]
        size = cut.duration / count
        return [cut.truncate(offset=i * size, duration=size).with_id(f"{cut.id}-{i}") for i in range(count)]

    return CutSet.from_cuts([piece for cut in cuts for piece in pieces(cut)])
