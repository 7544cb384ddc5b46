"""A run's configuration: one YAML for model, data, training and decoding, and the building of what it names."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Sequence

from omegaconf import DictConfig, OmegaConf

from voxkit import config as configuration
from voxkit.data.config import DataConfig
from voxkit.models.contract import SpeechModel
from voxkit.system import System, TokenIds, find_system
from voxkit.text.vocabulary import Vocabulary
from voxkit.train.config import TrainConfig


@dataclass
class DecodeConfig:
    """Defaults of `voxkit decode` and of the WER on dev during training.

    Attributes:
        method: of `voxkit decode`, one that the system has (docs/decoding.md).
        beam: hypotheses kept.
        ctc_weight: of the CTC score in joint decoding, rescoring and a Paraformer's beam.
        lm_weight, length_bonus: of a language model and of each token, where there is one; rescore_weight: of the second one;
            rescore_nbest: hypotheses that it ranks, null: all of the beam.
        length_limit, coverage, length_power: of the attention decoder's beam; length_limit: at most so many times the tokens that CTC
            expects, .inf: no limit; length_power null: 0.5 alone, 0 jointly with CTC, 1 for a transducer.
        internal_lm_weight: of the transducer's own language model, which its beam subtracts; symbols_per_frame: tokens that a frame of
            its greedy search may emit.
        normalize: text rule on references and hypotheses before they are scored (`voxkit.eval.normalize`), where no command names another.
        validation_method: what measures the WER on dev while training.
        validation_limit: utterances of dev used for it; 0 = all.
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm_weight: float = 0.3
    rescore_weight: float = 0.3
    rescore_nbest: Optional[int] = None
    length_bonus: float = 0.0
    length_limit: float = field(default=1.2, metadata={"unbounded": True})
    coverage: float = 0.0
    length_power: Optional[float] = None
    internal_lm_weight: float = 0.0
    symbols_per_frame: int = 1
    normalize: str = "none"
    validation_method: str = "greedy"
    validation_limit: int = 0


@dataclass
class RunConfig:
    """The whole of a run.

    Attributes:
        name: of the run, ends up in its directory's name.
        system: which of the systems (voxkit.system.SYSTEMS).
        seed: of everything random.
        tokenizer: file or directory made by `voxkit tokenize`.
        init: checkpoint or run directory whose weights training starts from (the stage before); empty = from scratch.
        init_parts: parts of the model that are taken from there, e.g. [front_end, encoder] of another system; empty = all of it.
        cache: store the states of the frozen encoder once and train on those; the audio is then not augmented on the fly, but every
            speed of data.speed_perturb is stored.
        cache_dir: where; empty = `states` in data.data_dir.
        model: options of the system; data, train, decode: of the rest.
    """

    name: str = "run"
    system: str = "voxformer"
    seed: int = 42
    tokenizer: str = ""
    init: str = ""
    init_parts: list[str] = field(default_factory=list)
    cache: bool = False
    cache_dir: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def problems(self) -> list[str]:
        if self.init_parts and not self.init:
            return [f"init_parts: {list(self.init_parts)} of what? give init, the checkpoint or run that they are taken from, too"]
        return []


@dataclass
class Setup:
    """A checked configuration, its model part in the system's own dataclass."""

    config: RunConfig
    model: Any

    @property
    def system(self) -> System:
        """What it names."""
        return find_system(self.config.system)

    def build_model(self, vocabulary: Vocabulary | TokenIds | int = 0) -> SpeechModel:
        """A fresh model.

        Args:
            vocabulary: its size must agree with the configuration where that names one. A size alone stands for what `voxkit tokenize`
                makes; 0: of the size that the configuration names.
        """
        tokens = TokenIds(vocabulary or self.model.vocab_size) if isinstance(vocabulary, int) else vocabulary
        return self.system.build(self.model, tokens)

    def as_mapping(self) -> DictConfig:
        """Everything, defaults included, as it goes into a run's and a checkpoint's config.yaml."""
        node = OmegaConf.structured(self.config)
        OmegaConf.set_struct(node, False)
        node.model = OmegaConf.to_container(OmegaConf.structured(self.model))
        return node


def load_setup(path: str | os.PathLike, overrides: Sequence[str] = ()) -> Setup:
    """Read, overlay and check a configuration.

    Raises:
        ConfigError: every problem found, each naming its option.
    """
    return make_setup(configuration.load(path, overrides), Path(path).name)


def make_setup(node: DictConfig, where: str = "config") -> Setup:
    """The same from a configuration already read."""
    config = configuration.structure(RunConfig, node, where)
    model = configuration.structure(find_system(config.system).config, config.model, f"{where}.model")
    own = getattr(getattr(model, "front_end", None), "fbank_bins", 0)
    if config.data.input == "fbank" and own and config.data.fbank_bins not in (0, own):
        raise configuration.ConfigError(f"{where}.data.fbank_bins is {config.data.fbank_bins} and model.front_end.fbank_bins {own}: the "
                                        "model would not take the loader's features; set one of them, or data.fbank_bins to 0")
    config.data.fbank_bins = config.data.fbank_bins or own
    return Setup(config, model)
