"""Reader of systems that learn from codes: sets → codes, encoded once and kept → sessions of one speaker.

The codes of a set lie in one file for each codec, `codes/<codec's fingerprint>/<set>.safetensors` in data.data_dir (or cache_dir). What the
file lacks is encoded and added; it is never read for another codec.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from voxkit import files
from voxkit.codecs.tokenizer import AudioTokenizer
from voxkit.data.code_sessions import CodeSessions
from voxkit.data.reader import load_samples
from voxkit.data.sampler import UtteranceFilter
from voxkit.data.sessions import speaker_of
from voxkit.data.sets import read_sets
from voxkit.models.contract import SpeechModel
from voxkit.rate import RATE
from voxkit.run_config import Setup
from voxkit.train.distributed import World, patient_barrier
from voxkit.training.speech import SpeechReader

log = logging.getLogger(__name__)


class CodesReader:
    """data.train and data.dev → batches of codes; data.sessions.seconds says how long sessions are, data.max_duration what a batch holds.

    Attributes:
        train, dev: loaders; dev is None where no set is named.

    Raises:
        ValueError: a set that is not there, or what `check` refuses.
    """

    def __init__(self, setup: Setup, model: SpeechModel, vocabulary: AudioTokenizer, run_dir: Path, world: World) -> None:
        config, data = setup.config, setup.config.data
        root = Path(config.cache_dir or Path(data.data_dir) / "codes") / vocabulary.fingerprint()
        with patient_barrier(world) as barrier:  # the main process encodes, the others wait for its file
            if world.main:
                self._fill(data, vocabulary.to(world.device), root)
            barrier()
        vocabulary.to("cpu")
        self.train = self._loader(setup, data.train, root, vocabulary, world, train=True)
        self.dev = self._loader(setup, data.dev, root, vocabulary, world, train=False) if data.dev else None

    @staticmethod
    def check(setup: Setup) -> None:
        """Refuse before the run is begun what is no audio, and a batch size that would have to be tried.

        Raises:
            ValueError: names the option.
        """
        if setup.config.data.max_duration == "auto":
            raise ValueError(f"data.max_duration: auto is not found out for system {setup.config.system}; give seconds, for example 240")
        if setup.config.data.input != "audio":
            raise ValueError(f"data.input: {setup.config.data.input}: codes are made of audio; set it to audio")
        SpeechReader.check(setup)

    def _fill(self, data: Any, tokenizer: AudioTokenizer, root: Path) -> None:
        for entry in [*data.train, *(data.dev or [])]:
            path = codes_file(root, entry)
            codes = load_file(path) if path.is_file() else {}
            missing = [cut for cut in read_sets(data.data_dir, [entry]) if cut.id not in codes]
            if not missing:
                continue
            log.info("%s: %d utterances are encoded into %s", entry, len(missing), path)
            for cut in missing:
                codes[cut.id] = tokenizer.encode(torch.from_numpy(load_samples(cut)), RATE).cpu().to(torch.int32).contiguous()
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.writing(path, "wb") as file:
                file.write(save(codes))

    def _loader(self, setup: Setup, entries: list[str], root: Path, tokenizer: AudioTokenizer, world: World, *,
                train: bool) -> CodeSessions:
        data = setup.config.data
        keep = UtteranceFilter(data) if train else lambda cut: True
        codes: dict[str, Tensor] = {}
        speakers: dict[str, str] = {}
        for entry in entries:
            kept = load_file(codes_file(root, entry))
            for cut in read_sets(data.data_dir, [entry], 0 if train else setup.config.decode.validation_limit):
                if keep(cut):
                    codes[cut.id], speakers[cut.id] = kept[cut.id], speaker_of(cut)
        seconds = data.sessions.seconds if train else data.sessions.seconds[-1:]
        return CodeSessions(codes, speakers, frame_rate=tokenizer.codec.frame_rate, seconds=seconds, max_seconds=float(data.max_duration),
                            seed=setup.config.seed, shuffle=data.shuffle and train, rank=world.rank, world_size=world.size)


def codes_file(root: Path, entry: str) -> Path:
    """Where the codes of a set are."""
    return root / f"{files.file_name(entry)}.safetensors"
