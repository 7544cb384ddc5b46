"""Recognition as one file of options sets it up: a first model, a second one that reads each utterance again, searches, endpoints.

    pipeline = load_pipeline("conf/inference.yaml")
    print(pipeline.transcribe("interview.wav").text)
    session = pipeline.session(rate=48000)           # as of StreamingRecognizer; pipeline.step([...]) works on many

    # conf/inference.yaml
    model: exp/live                      # a streaming artifact; or an artifact over whole utterances, for files alone
    search: {method: greedy}
    second: exp/onnx                     # says the final text; an artifact, or (with torch) a checkpoint, a Whisper too
    second_search: {method: joint, phrases: [heal me], boost: 2.0}
    endpointing: {silence: 0.5}
    threads: 1
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from voxkit.audio.decode import read_mono
from voxkit.files import read_text
from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.artifact import Artifact, is_artifact
from voxkit.runtime.checks import check_samples
from voxkit.runtime.endpoint import Endpointing
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.second_pass import ArtifactPass, PhraseList, SecondPass
from voxkit.runtime.streaming import Session, StreamEvent, StreamingRecognizer

_NUMBERS = ("ctc_weight", "lm_weight", "length_bonus", "length_limit", "length_power", "coverage")


@dataclass(frozen=True)
class SearchConfig:
    """How one model is searched.

    Attributes:
        method: as of `voxkit transcribe`.
        weights: beam, ctc_weight, lm_weight, length_bonus, length_limit, length_power, coverage: as of SearchOptions. In the file they
            stand beside the method.
        lm: path of an n-gram over the model's tokens.
        phrases: phrase → nats per token, None: `boost`. boost: of those that have none of their own.
        words: whether final texts have word times and confidences.
    """

    method: str = "greedy"
    weights: Mapping[str, float] = field(default_factory=dict)
    lm: str | None = None
    phrases: Mapping[str, float | None] = field(default_factory=dict)
    boost: float = 1.5
    words: bool = True

    def boosted(self) -> dict[str, float]:
        """Phrase → nats per token."""
        return {phrase: self.boost if own is None else own for phrase, own in self.phrases.items()}


@dataclass(frozen=True)
class PipelineConfig:
    """What a file of options says.

    Attributes:
        model: artifact; a streaming one for audio as it comes. search: how it is searched.
        second: artifact or checkpoint that reads each utterance at its end; None: one pass. second_search: how it is searched.
        endpointing: when an utterance of a stream ends.
        threads: of each model. device: `cpu` or `cuda`.
    """

    model: str
    search: SearchConfig = SearchConfig()
    second: str | None = None
    second_search: SearchConfig = SearchConfig()
    endpointing: Endpointing = Endpointing()
    threads: int = 1
    device: str = "cpu"


OpenCheckpoint = Callable[[str, SearchConfig, PipelineConfig], SecondPass]


class Pipeline:
    """Models and searches, ready.

    Args:
        config: what they were made by.
        first: of audio as it comes; None: `whole` alone.
        whole: what reads whole utterances, the second pass or the only one; None: there is none.

    Attributes: as the arguments.
    """

    def __init__(self, config: PipelineConfig, first: StreamingRecognizer | None, whole: SecondPass | None) -> None:
        self.config, self.first, self.whole = config, first, whole

    @property
    def streams(self) -> bool:
        """Whether it takes audio as it comes."""
        return self.first is not None

    def session(self, *, rate: int = RATE, phrases: PhraseList | None = None, boost: float = 1.5,
                endpointing: Endpointing | None | str = "config") -> Session:
        """A stream before its first sample; arguments as of `StreamingRecognizer.session`.

        Args:
            endpointing: by default the configuration's; None: an utterance ends when `finalize` says so.

        Raises:
            ValueError: the model does not stream; as there.
        """
        if self.first is None:
            raise ValueError(f"{self.config.model} takes whole utterances; audio as it comes needs a streaming artifact as `model`: make "
                             "one of a causal model with `voxkit export CHECKPOINT --streaming --chunk-ms 320 --out DIR`")
        ends = self.config.endpointing if isinstance(endpointing, str) else endpointing
        return self.first.session(rate=rate, phrases=phrases, boost=boost, endpointing=ends)

    def step(self, sessions: Sequence[Session]) -> list[list[StreamEvent]]:
        """Work on everything that sessions were fed → the events of each."""
        assert self.first is not None, "`session` has refused"
        return self.first.step(sessions)

    def transcribe(self, audio: str | os.PathLike | np.ndarray, phrases: PhraseList | None = None, boost: float = 1.5) -> Hypothesis:
        """A file or a waveform [S] at 16 kHz, by the model that reads whole utterances, else by the stream as one utterance.

        Raises:
            ValueError: a file that cannot be read, audio that cannot be used.
        """
        if isinstance(audio, np.ndarray):
            wave = check_samples(audio, "audio")
        else:
            wave = check_samples(read_mono(audio)[0], os.fspath(audio))
        if self.whole is not None:
            return self.whole.read(wave, phrases, boost)
        session = self.session(phrases=phrases, boost=boost, endpointing=None)
        return (session.accept(wave) + session.finalize())[-1].hypothesis


def load_pipeline(config: str | os.PathLike | Mapping[str, Any] | PipelineConfig,
                  open_checkpoint: OpenCheckpoint | None = None) -> Pipeline:
    """Open the models that a file of options names; their paths count from the current directory.

    Args:
        config: the file, or what it holds.
        open_checkpoint: makes a second pass of a checkpoint, which takes torch (`voxkit.experiments.pipeline.open_pipeline` has one).

    Raises:
        ValueError: unknown or wrong options, all named; a model that is no artifact; a search that it cannot do.
    """
    if not isinstance(config, PipelineConfig):
        config = read_config(config)
    artifact = Artifact(config.model, threads=config.threads, device=config.device)
    recognizer = OnnxRecognizer(artifact)
    options = _options(config.search, recognizer)
    second = None if config.second is None else _second(config, open_checkpoint)
    if artifact.streaming is not None:
        return Pipeline(config, StreamingRecognizer(artifact, options, second=second), second)
    if second is not None:
        raise ValueError(f"second: {config.model} reads whole utterances itself; a second pass is for a streaming artifact: omit it")
    return Pipeline(config, None, ArtifactPass(recognizer, options))


def read_config(source: str | os.PathLike | Mapping[str, Any]) -> PipelineConfig:
    """The options in a YAML file, or a mapping of the same form.

    Raises:
        ValueError: no such file, no YAML, unknown options or values that cannot be: all of them named.
    """
    name = "inference options" if isinstance(source, Mapping) else os.fspath(source)
    content = source if isinstance(source, Mapping) else _read_yaml(Path(source))
    found: list[str] = []
    known = [one.name for one in fields(PipelineConfig)]
    found += [f"{key}: no such option; there are {', '.join(known)}" for key in content if key not in known]
    if not isinstance(content.get("model"), str):
        found.append("model: name the directory of an artifact")
    if not isinstance(content.get("second"), (str, type(None))):
        found.append(f"second: {content['second']!r} is no path")
    threads, device = content.get("threads", 1), content.get("device", "cpu")
    if device not in ("cpu", "cuda"):
        found.append(f"device: {device!r} is none of cpu, cuda")
    if not isinstance(threads, int) or threads < 0:
        found.append(f"threads: {threads!r} is no number of threads (0: all cores)")
    searches = [_search(key, content.get(key) or {}, found) for key in ("search", "second_search")]
    endpointing = _endpointing(content.get("endpointing") or {}, found)
    if found:
        raise ValueError("\n".join(f"{name}: {problem}" for problem in found))
    return PipelineConfig(content["model"], searches[0], content.get("second"), searches[1], endpointing, threads, device)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: options are `name: value` lines, such as `model: exp/live`")
    return content


def _search(key: str, given: Any, found: list[str]) -> SearchConfig:
    if not isinstance(given, Mapping):
        found.append(f"{key}: {given!r} is none of {{method: greedy, ...}}")
        return SearchConfig()
    known = ["method", "lm", "phrases", "boost", "words", "beam", *_NUMBERS]
    found += [f"{key}.{name}: no such option; there are {', '.join(known)}" for name in given if name not in known]
    weights = {name: given[name] for name in ("beam", *_NUMBERS) if name in given}
    beam, boost, lm, words = given.get("beam", 1), given.get("boost", 1.5), given.get("lm"), given.get("words", True)
    if not isinstance(beam, int) or isinstance(beam, bool) or beam < 1:
        found.append(f"{key}.beam: {beam!r} is no whole number of 1 or more")
    found += [f"{key}.{name}: {weights[name]!r} is no number" for name in _NUMBERS
              if name in weights and not _finite(weights[name]) and not (name == "length_limit" and weights[name] == math.inf)]
    if not _finite(boost):
        found.append(f"{key}.boost: {boost!r} is no finite number")
    if not isinstance(lm, (str, type(None))):
        found.append(f"{key}.lm: {lm!r} is no path")
    if not isinstance(words, bool):
        found.append(f"{key}.words: {words!r} is neither true nor false")
    phrases = given.get("phrases") or {}
    if isinstance(phrases, str) or not isinstance(phrases, (Mapping, list)):
        found.append(f"{key}.phrases: {phrases!r}; give a list of phrases, or phrase: boost")
        phrases = {}
    boosted = dict(phrases) if isinstance(phrases, Mapping) else dict.fromkeys(map(str, phrases))
    found += [f"{key}.phrases: {phrase}: {own!r} is no finite number" for phrase, own in boosted.items()
              if own is not None and not _finite(own)]
    return SearchConfig(str(given.get("method", "greedy")), weights, lm, boosted, float(boost) if _finite(boost) else 1.5, words)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _endpointing(given: Any, found: list[str]) -> Endpointing:
    known = [one.name for one in fields(Endpointing)]
    if not isinstance(given, Mapping):
        found.append(f"endpointing: {given!r} is none of {{silence: 0.5, ...}}")
        return Endpointing()
    wrong = [f"endpointing.{name}: no such option; there are {', '.join(known)}" for name in given if name not in known]
    wrong += [f"endpointing.{name}: {value!r} is no number" for name, value in given.items() if not isinstance(value, (int, float))]
    options = Endpointing(**{name: float(value) for name, value in given.items()}) if not wrong else Endpointing()
    found += wrong + [f"endpointing.{problem}" for problem in options.problems()]
    return options


def _options(config: SearchConfig, recognizer: OnnxRecognizer) -> SearchOptions:
    given: dict[str, Any] = dict(config.weights)
    if config.lm:
        given["lm"] = recognizer.language_model(config.lm)
    if config.phrases:
        given["context"] = recognizer.phrases(config.boosted())
    return SearchOptions(config.method, words=config.words, **given)


def _second(config: PipelineConfig, open_checkpoint: OpenCheckpoint | None) -> SecondPass:
    assert config.second is not None
    if is_artifact(config.second):
        recognizer = OnnxRecognizer(config.second, threads=config.threads, device=config.device)
        return ArtifactPass(recognizer, _options(config.second_search, recognizer))
    if open_checkpoint is None:
        raise ValueError(f"second: {config.second} is no artifact, and a checkpoint takes torch, which is not here; make an artifact of it "
                         "with `voxkit export`")
    return open_checkpoint(config.second, config.second_search, config)
