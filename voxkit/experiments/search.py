"""The searches of one checkpoint: settings with what they name loaded, for each method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from voxkit.checkpoint.loading import Loaded, decode_dir
from voxkit.experiments.settings import LANGUAGE_MODELS, PROMPT, SearchSettings, check_needs, option
from voxkit.files import read_text, sha256
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.infer.recognizer import Recognizer
from voxkit.models.contract import Listener
from voxkit.search.options import SearchOptions
from voxkit.search.weights import FUSED, WEIGHTS
from voxkit.text.prompt import Request
from voxkit.train.distributed import choose_device

Say = Callable[[str], None]


def silent(message: str) -> None:
    """Say nothing."""


@dataclass
class Search:
    """Attributes:
    options: without a method.
    settings: as they were given.
    recognizer: whose searches they are.
    by_method: method → options of its own (tuned); boosts: method → boost of phrases that was tuned.
    files: lm, rescore_lm, graph → path, of those that were given.
    chunk: what the label says of chunks: "stream320left1280", as `Chunk.name`; empty: nothing.
    """

    options: SearchOptions
    settings: SearchSettings
    recognizer: Recognizer
    by_method: dict[str, dict[str, Any]] = field(default_factory=dict)
    boosts: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    chunk: str = ""

    def check(self, methods: Sequence[str], say: Say = silent) -> None:
        """Say which of the methods go without the language model or the phrases that were given, because they take none, and which
        without tuned weights, because the file has none for them.

        Raises:
            ValueError: a method that the model lacks, one without the graph that it needs, or something was given that none of them takes
                or looks at.
        """
        for method in methods:
            self.recognizer.check(self._whole(method))
        self.settings.check(methods)
        refused = {method: self.recognizer.refused(self._whole(method)) for method in methods}
        for name in FUSED:
            if all(name in names for names in refused.values()):
                raise ValueError("\n".join(str(self.recognizer.refusal(self._whole(method))) for method in methods))
        for method, names in refused.items():
            if names:
                say(f"without {' and '.join(FUSED[name] for name in names)}: {self.recognizer.refusal(self._whole(method))}")
        untuned = [method for method in methods if method not in self.by_method]
        if self.by_method and untuned:
            what = f"--tuned: no weights for {', '.join(untuned)}, only for {', '.join(self.by_method)}"
            if len(untuned) == len(methods):
                raise ValueError(f"{what}; run `voxkit tune` with --methods {' '.join(untuned)}, or omit --tuned")
            say(f"{what}; the former keep those of the options and the configuration")

    def of(self, method: str, **changes: Any) -> SearchOptions:
        """Options of one method, without what it does not take, so that it can stand beside others in one table."""
        options = self._whole(method)
        return replace(options, **{**dict.fromkeys(self.recognizer.refused(options)), **changes})

    def _whole(self, method: str) -> SearchOptions:
        return replace(self.options, method=method, **self.by_method.get(method, {}))

    def phrases_of(self, method: str) -> dict[str, float]:
        """Phrase → boost, of a method that takes phrases."""
        return self.settings.boosted(self.boosts.get(method)) if self.of(method).context is not None else {}

    def label(self, method: str) -> str:
        """Name of the method with what is fused, for tables and files."""
        options = self.of(method)
        parts = [method, *([f"lm{options.lm_weight:g}"] if options.lm is not None else []),
                 *([f"rescored{options.rescore_weight:g}"] if options.rescore_lm is not None else []),
                 *([f"phrases{len(self.settings.phrases)}"] if options.context is not None else []), *([self.chunk] if self.chunk else [])]
        return "_".join(parts)

    def models_of(self, method: str) -> list[str]:
        """Which of `files` the method uses."""
        options = self.of(method)
        used = [name for name in LANGUAGE_MODELS if getattr(options, name) is not None]
        return [name for name in [*used, *(["graph"] if self.recognizer.method(method).graph else [])] if name in self.files]

    def weights_of(self, method: str) -> dict[str, Any]:
        """The weights that the method looks at, as they came out of configuration, tuning and settings."""
        options = self.of(method)
        fused = [f"{name.removesuffix('_lm')}_weight" for name in LANGUAGE_MODELS if getattr(options, name) is not None]
        names = [*self.recognizer.method(method).weights, *fused, *(["rescore_nbest"] if options.rescore_lm is not None else [])]
        return {name: getattr(options, name) for name in names}

    def resolved(self, method: str) -> SearchSettings:
        """Settings that give this search of the method whatever configuration and tuned weights say."""
        used: dict[str, Any] = {name: self.files[name] for name in self.models_of(method)}
        return SearchSettings(self.weights_of(method), **used, phrases=self.phrases_of(method), times=self.settings.times,
                              **self._told(method))

    def _told(self, method: str) -> dict[str, Any]:
        """What only a language model that reads audio looks at."""
        return {name: getattr(self.settings, name) for name in (*PROMPT, "stop")} if method == "generate" else {}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of `files`."""
        return {name: sha256(path) for name, path in self.files.items()}

    def fingerprint(self, method: str) -> dict[str, Any]:
        """What decides what a method finds: the weights it looks at, SHA-256 of language model, graph and phrases with their boosts."""
        found = {"times": self.of(method).times, **self.weights_of(method), **{name: self.hashes[name] for name in self.models_of(method)}}
        found |= {name: value for name, value in self._told(method).items() if value not in (None, True)}
        if phrases := self.phrases_of(method):
            found["phrases"] = hashlib.sha256(json.dumps(sorted(phrases.items())).encode()).hexdigest()
        return found

    def fitted(self, content: Mapping[str, Any], method: str) -> tuple[dict[str, Any] | None, str]:
        """What a calibration has for this search; or None, and why where something was fitted, but with other settings."""
        label = self.label(method)
        known = content.get("methods", {}).get(label)
        then = known.get("settings") if known else None
        now = self.fingerprint(method) if then else {}
        by_content = (*LANGUAGE_MODELS, "graph", "phrases")
        differing = [f"another {name}" if name in by_content else f"{name} {then.get(name)} and not {now.get(name)}"
                     for name in {**then, **now} if then.get(name) != now.get(name)] if then else []
        if differing:
            return None, (f"what was fitted for {label} is for {', '.join(differing)}; fit it anew with `voxkit decode RUN --sets SET "
                          f"--methods {method} --calibrate SET` and the same options")
        return known, ""


@dataclass
class Opened:
    """A checkpoint with its recognizer; `kept`: the folder of what its run keeps of decoding, tuning and calibrating."""

    loaded: Loaded
    recognizer: Recognizer
    kept: Path

    @property
    def config(self) -> Any:
        """The run's configuration."""
        return self.loaded.setup.config


def open_checkpoint(path: str, device: str = "auto", overrides: Sequence[str] = ()) -> Opened:
    """Load a checkpoint, or the best of a run.

    Raises:
        ValueError: as `load_checkpoint`, `choose_device`.
    """
    chosen = choose_device(device)
    loaded = load_checkpoint(path, chosen, list(overrides))
    return Opened(loaded, Recognizer(cast(Listener, loaded.model), loaded.vocabulary, chosen), decode_dir(loaded.path))


def set_chunk(opened: Opened, settings: SearchSettings, methods: Sequence[str], stream: bool, chunk_ms: float | None,
              left_ms: float | None) -> str:
    """Set the chunk that is asked for in the model → its name for labels, empty where none is asked for.

    Raises:
        ValueError: a chunk that does not fit the model, options that say nothing without others; with `stream` a method, a second
            language model, a model or times of words that take the whole utterance.
    """
    from voxkit.infer import streaming
    from voxkit.infer.chunks import chunk_of

    model = opened.recognizer.model
    if stream:
        if settings.times == "alignment":
            raise ValueError("--times alignment takes the whole utterance; with --stream words are timed by peaks: omit it")
        for method in methods:
            streaming.check_method(method, ranked=bool(settings.rescore_lm))
        streaming.check_model(model)
    elif chunk_ms is None:
        if left_ms is not None:
            raise ValueError("--left-ms is what is seen before a chunk: give --chunk-ms too")
        return ""
    chunk = chunk_of(model, chunk_ms, left_ms, streaming=stream)
    chunk.set(model)
    return chunk.name(stream)


def build_search(settings: SearchSettings, opened: Opened, say: Say = silent, *, chunk: str = "", stream: bool = False,
                 **changes: Any) -> Search:
    """Settings over what was tuned, over the run's DecodeConfig.

    Args:
        chunk: as `set_chunk` names it; stream: whether utterances are decoded as they are spoken.
        changes: further options of the searches.

    Raises:
        ValueError: phrases that the vocabulary cannot spell, a language model over other tokens, a file of tuned weights that is none
            or does not fit, a weight of something that was not given.
    """
    recognizer, decode = opened.recognizer, opened.config.decode
    check_needs(settings.named)
    settled = {name: settings.weights.get(name, getattr(decode, name)) for name in WEIGHTS}
    lm = recognizer.language_model(settings.lm) if settings.lm else None
    context = recognizer.phrases(settings.boosted()) if settings.phrases else None
    rescore_lm = _pretrained(settings.rescore_lm, recognizer) if settings.rescore_lm else None
    files = {name: path for name in ("lm", "graph") if (path := getattr(settings, name))}
    files |= {"rescore_lm": str(rescore_lm.folder)} if rescore_lm else {}
    told = {name: value for name in PROMPT if (value := getattr(settings, name)) is not None}
    if "llm" in recognizer.model.heads.there() and (told or settings.phrases):
        changes["prompt"] = Request(**told, phrases=tuple(settings.phrases))
    if not settings.stop:
        changes["stop"] = None
    options = SearchOptions(**settled, lm=lm, context=context, rescore_lm=rescore_lm, graph=_graph(settings.graph, recognizer),
                            times=settings.times or ("peaks" if stream else "alignment"), **changes)
    search = Search(options, settings, recognizer, files=files, chunk=chunk)
    if settings.tuned is None:
        return search
    for method, tuned in read_tuned(settings.tuned or str(opened.kept / "tuned.json"), search, say).items():
        search.by_method[method] = {name: value for name, value in tuned.items() if name in WEIGHTS and name not in settings.weights}
        if "boost" in tuned and settings.boost is None and settings.phrases:
            search.boosts[method] = tuned["boost"]
            search.by_method[method]["context"] = recognizer.phrases(settings.boosted(tuned["boost"]))
    return search


def _pretrained(name: str, recognizer: Recognizer) -> Any:
    from voxkit.infer.pretrained_lm import PretrainedLM

    return PretrainedLM.load(name, recognizer.device)


def _graph(path: str | None, recognizer: Recognizer) -> Any:
    if not path:
        return None
    from voxkit.search.k2_graphs import load_graph

    graph = load_graph(path, recognizer.device)
    if graph.tokenizer not in ("", recognizer.vocabulary.fingerprint()):
        raise ValueError(f"--graph {path}: it was made with another tokenizer; make it with `voxkit lm graph --tokenizer` and the model's "
                         "own")
    return graph


def read_tuned(path: str, search: Search, say: Say = silent) -> dict[str, dict[str, float]]:
    """Method → weights, as `voxkit tune` wrote them, for searches with these phrases and language models.

    Raises:
        ValueError: not such a file, or weights for a search with a language model or phrases that this one lacks, the other way round, or
            with another language model.
    """
    if not Path(path).is_file():
        raise ValueError(f"--tuned {path}: no such file; `voxkit tune RUN --set SET --methods ...` writes it")
    try:
        content = json.loads(read_text(path))
        methods = {method: {name: found[name] for name in (*WEIGHTS, "boost") if name in found}
                   for method, found in content["result"]["methods"].items()}
        phrases, models = content["job"]["search"]["phrases"], content["inputs"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--tuned {path}: not a file that `voxkit tune` wrote ({error!r})") from error
    for name in (*LANGUAGE_MODELS, "phrases"):
        then, now = (phrases, search.settings.phrases) if name == "phrases" else (models.get(name), search.files.get(name))
        if bool(then) != bool(now):
            want = f"give {option(name)}" if then else f"omit {option(name)}"
            raise ValueError(f"--tuned {path}: its weights are for searches {'with' if then else 'without'} {option(name)}; {want}, or "
                             "tune anew")
        if name in LANGUAGE_MODELS and then and search.hashes[name] != then["sha256"]:
            raise ValueError(f"--tuned {path}: its weights were found with the language model {then['path']}, and {option(name)} {now} is "
                             "another one (SHA-256 differs); tune anew with it")
    return methods
