"""The options of searching that decode, tune, transcribe, hallucinate and serve share, and what they make of them."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Mapping

from voxkit.cli.arguments import limit
from voxkit.cli.fingerprint import sha256, stamp
from voxkit.cli.idle_options import check_looked_at, check_needs
from voxkit.search.weights import FUSED, WEIGHTS

LANGUAGE_MODELS = ("lm", "rescore_lm")  # attributes of SearchOptions, and with dashes the options that give them
_BOOST = 1.5


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Register them."""
    group = parser.add_argument_group("search")
    group.add_argument("--beam", type=int, help="hypotheses kept")
    group.add_argument("--ctc-weight", type=float, help="of the CTC score in joint decoding, rescoring and a Paraformer's beam")
    group.add_argument("--lm", help="language model over the tokens: ARPA, KenLM binary, or the directory of a neural one")
    group.add_argument("--lm-weight", type=float)
    group.add_argument("--rescore-lm", metavar="NAME", help="pretrained causal language model, a Hugging Face name or folder, by which the "
                                                            "beam's hypotheses are ranked anew")
    group.add_argument("--rescore-weight", type=float, help="of its log-probability")
    group.add_argument("--rescore-nbest", type=int, metavar="N", help="how many of the beam's hypotheses it ranks; by default all")
    group.add_argument("--length-bonus", type=float, help="per token")
    group.add_argument("--length-limit", type=limit, metavar="R",
                       help="attention, joint: at most R times as many tokens as CTC expects (by default 1.2), and a bonus for as many as "
                            "it expects; inf: no limit, and a bonus for all")
    group.add_argument("--coverage", type=float, help="attention, joint: weight of frames attended to")
    group.add_argument("--length-power", type=float, help="attention, joint, transducer_beam: scores are divided by length to this power")
    group.add_argument("--internal-lm-weight", type=float, metavar="W",
                       help="transducer_beam: of the transducer's own language model, which is subtracted")
    group.add_argument("--symbols-per-frame", type=int, metavar="N", help="transducer_greedy: tokens that a frame may emit, by default 1")
    group.add_argument("--phrases", help="file of phrases to favour, one a line, each maybe with PHRASE<TAB>BOOST of its own")
    group.add_argument("--boost", type=float, help=f"of each token of a phrase that has none of its own, in nats; by default {_BOOST}")
    group.add_argument("--graph", help="decoding graph of the k2 methods (`voxkit lm graph` makes it)")


def add_set_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Register what the commands that search prepared sets have besides: where those are, how texts are compared, where results go (`out`
    by default), the device, overrides."""
    parser.add_argument("--data-dir", help="of prepared sets; by default as in training")
    parser.add_argument("--normalise", default="none", help="of references and hypotheses before scoring: none, librispeech, ...")
    parser.add_argument("--limit", type=int, default=0, help="only the first utterances of each set")
    parser.add_argument("--out", help=f"by default {out}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def add_tuned_argument(parser: argparse.ArgumentParser) -> None:
    """Register --tuned, which every command but tune itself has."""
    parser.add_argument("--tuned", metavar="FILE", nargs="?", const="",
                        help="weights of every method as `voxkit tune` found them, by default those kept in the run; options given here "
                             "go before")


def add_times_argument(parser: argparse.ArgumentParser) -> None:
    """Register --times, of the commands that say where words are."""
    parser.add_argument("--times", choices=["alignment", "peaks"],
                        help="of words that CTC says: what was recognised is aligned (default), or the peaks that the search saw count "
                             "(with --stream always)")


def add_chunk_arguments(parser: argparse.ArgumentParser, stream: str, chunk: str) -> None:
    """Register --stream, --chunk-ms and --left-ms; `stream` and `chunk` say what the first two do."""
    group = parser.add_argument_group("streaming, of a causal model")
    group.add_argument("--stream", action="store_true", help=stream)
    group.add_argument("--chunk-ms", type=float, metavar="MS", help=chunk)
    group.add_argument("--left-ms", type=float, metavar="MS", help="how much is seen before a chunk; by default as much as in training")


def read_chunk(args: argparse.Namespace, recognizer: Any) -> Any:
    """The chunk that the options ask for (`voxkit.infer.chunks.Chunk`), set in the model; None where they ask for none.

    Raises:
        ValueError: one that does not fit the model, or options that say nothing without others.
    """
    from voxkit.infer.chunks import chunk_of

    if not args.stream and args.chunk_ms is None:
        if args.left_ms is not None:
            raise ValueError("--left-ms is what is seen before a chunk: give --chunk-ms too")
        return None
    chunk = chunk_of(recognizer.model, args.chunk_ms, args.left_ms, streaming=args.stream)
    chunk.set(recognizer.model)
    return chunk


def check_streaming(args: argparse.Namespace, recognizer: Any, methods: list[str]) -> None:
    """Refuse, with --stream, what does not stream, before anything is loaded for it.

    Raises:
        ValueError: a method, a second language model, a model or times of words that take the whole utterance.
    """
    from voxkit.infer import streaming

    if args.times == "alignment":
        raise ValueError("--times alignment takes the whole utterance; with --stream words are timed by peaks: leave it away")
    for method in methods:
        streaming.check_method(method, ranked=bool(args.rescore_lm))
    streaming.check_model(recognizer.model)


@dataclass
class Search:
    """Options as the recipe and the command line say, with what they name loaded.

    Attributes:
        options: without a method; phrases: phrase → boost, as read; recognizer: whose searches they are for.
        by_method: method → options of its own (`--tuned`).
        phrases_by_method: likewise, phrases with the boost that was tuned.
        files: lm, rescore_lm, graph → path, of those that were given.
        typed: weights of the command line.
        chunk: what the label says of chunks: "stream320left1280", as `Chunk.name`; empty: nothing.
    """

    options: Any
    phrases: dict[str, float]
    recognizer: Any
    by_method: dict[str, dict[str, Any]] = field(default_factory=dict)
    phrases_by_method: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    typed: dict[str, Any] = field(default_factory=dict)
    chunk: str = ""

    def check(self, methods: list[str]) -> None:
        """Print which of the methods go without the language model or the phrases that were given, because they take none, and which
        without tuned weights, because the file has none for them.

        Raises:
            ValueError: a method that the model lacks, one without the graph that it needs, or something was given that none of them takes
                or looks at.
        """
        for method in methods:
            self.recognizer.check(self._whole(method))
        check_looked_at(self.typed, methods)
        refused = {method: self.recognizer.refused(self._whole(method)) for method in methods}
        for name in FUSED:
            if all(name in names for names in refused.values()):
                raise ValueError("\n".join(self.recognizer.refusal(self._whole(method)) for method in methods))
        for method, names in refused.items():
            if names:
                print(f"without {' and '.join(FUSED[name] for name in names)}: {self.recognizer.refusal(self._whole(method))}")
        untuned = [method for method in methods if method not in self.by_method]
        if self.by_method and untuned:
            what = f"--tuned: no weights for {', '.join(untuned)}, only for {', '.join(self.by_method)}"
            if len(untuned) == len(methods):
                raise ValueError(f"{what}; run `voxkit tune` with --methods {' '.join(untuned)}, or leave --tuned away")
            print(f"{what}; the former keep those of the options and the configuration")

    def of(self, method: str, **changes: Any) -> Any:
        """Options of one method, without what it does not take, so that it can stand beside others in one table."""
        options = self._whole(method)
        return replace(options, **{**dict.fromkeys(self.recognizer.refused(options)), **changes})

    def _whole(self, method: str) -> Any:
        return replace(self.options, method=method, **self.by_method.get(method, {}))

    def phrases_of(self, method: str) -> dict[str, float]:
        """Phrase → boost, of a method that takes phrases."""
        return self.phrases_by_method.get(method, self.phrases) if self.of(method).context is not None else {}

    def label(self, method: str) -> str:
        """Name of the method with what is fused, for tables and files."""
        options = self.of(method)
        parts = [method, *([f"lm{options.lm_weight:g}"] if options.lm is not None else []),
                 *([f"rescored{options.rescore_weight:g}"] if options.rescore_lm is not None else []),
                 *([f"phrases{len(self.phrases)}"] if options.context is not None else []), *([self.chunk] if self.chunk else [])]
        return "_".join(parts)

    @cached_property
    def stamps(self) -> dict[str, dict[str, str]]:
        """What `files` are: path and SHA-256."""
        return {name: stamp(path) for name, path in self.files.items()}

    def settings(self, method: str) -> dict[str, Any]:
        """What decides what a method finds: the weights it looks at, SHA-256 of language model, graph and phrases with their boosts."""
        options = self.of(method)
        fused = [name for name in LANGUAGE_MODELS if getattr(options, name) is not None]
        row = self.recognizer.method(method)
        names = [*row.weights, *(f"{name.removesuffix('_lm')}_weight" for name in fused),
                 *(["rescore_nbest"] if options.rescore_lm is not None else [])]
        used = [*fused, *(["graph"] if row.graph else [])]
        found = {"times": options.times, **{name: getattr(options, name) for name in names}}
        found |= {name: self.stamps[name]["sha256"] for name in used if name in self.files}
        if phrases := self.phrases_of(method):
            found["phrases"] = hashlib.sha256(json.dumps(sorted(phrases.items())).encode()).hexdigest()
        return found

    def fitted(self, content: Mapping[str, Any], method: str) -> tuple[dict[str, Any] | None, str]:
        """What a calibration has for this search; or None, and why where something was fitted, but with other settings."""
        label = self.label(method)
        known = content.get("methods", {}).get(label)
        limited = "length_limit" in self.recognizer.method(method).weights
        before = {"times": "alignment", **({"length_limit": math.inf} if limited else {})}  # options
        then = {**before, **known["settings"]} if known and known.get("settings") else None
        now = self.settings(method) if then else {}
        by_content = (*LANGUAGE_MODELS, "graph", "phrases")
        differing = [f"another {name}" if name in by_content else f"{name} {then.get(name)} and not {now.get(name)}"
                     for name in {**then, **now} if then.get(name) != now.get(name)] if then else []
        if differing:
            return None, (f"what was fitted for {label} is for {', '.join(differing)}; fit it anew with `voxkit decode RUN --sets SET "
                          f"--methods {method} --calibrate SET` and the same options")
        return known, ""


def build_search(args: argparse.Namespace, recognizer: Any, decode: Any, folder: Path | None = None, **changes: Any) -> Search:
    """From the command line over what was tuned, over the recipe's DecodeConfig.

    Args:
        folder: where the run keeps what was tuned, for --tuned without a file.
        changes: further options of the searches.

    Raises:
        ValueError: a phrase list that is empty or cannot be read, a language model over other tokens, a file of tuned weights that is none
            or does not fit, a weight of something that was not given.
    """
    from voxkit.infer.recognizer import SearchOptions

    given = {name: getattr(args, name) for name in WEIGHTS}
    check_needs({**given, **{name: getattr(args, name) for name in ("boost", "phrases", *LANGUAGE_MODELS)}})
    phrases = read_phrases(args.phrases, _BOOST if args.boost is None else args.boost) if args.phrases else {}
    settled = {name: getattr(decode, name) if value is None else value for name, value in given.items()}
    lm = recognizer.language_model(args.lm) if args.lm else None
    context = recognizer.phrases(phrases) if phrases else None
    graph = None
    if args.graph:
        from voxkit.search.k2_graphs import load_graph

        graph = load_graph(args.graph, recognizer.device)
        if graph.tokenizer not in ("", recognizer.vocabulary.fingerprint()):
            raise ValueError(f"--graph {args.graph}: it was made with another tokenizer; make it with `voxkit lm graph --tokenizer` and "
                             "the model's own")
    rescore_lm = None
    if args.rescore_lm:
        from voxkit.infer.pretrained_lm import PretrainedLM

        rescore_lm = PretrainedLM.load(args.rescore_lm, recognizer.device)
    files = {name: getattr(args, name) for name in ("lm", "graph") if getattr(args, name)}
    files |= {"rescore_lm": str(rescore_lm.folder)} if rescore_lm else {}
    changes |= {"times": args.times or ("peaks" if getattr(args, "stream", False) else "alignment")} if hasattr(args, "times") else {}
    options = SearchOptions(**settled, lm=lm, context=context, rescore_lm=rescore_lm, graph=graph, **changes)
    search = Search(options, phrases, recognizer, files=files, typed={name: value for name, value in given.items() if value is not None})
    if getattr(args, "tuned", None) is None:
        return search
    path = args.tuned or str((folder or Path()) / "tuned.json")
    for method, tuned in read_tuned(path, {name: files.get(name) for name in LANGUAGE_MODELS}, args.phrases).items():
        search.by_method[method] = {name: value for name, value in tuned.items() if given.get(name, True) is None}
        if "boost" in tuned and args.boost is None:
            search.phrases_by_method[method] = read_phrases(args.phrases, tuned["boost"])
            search.by_method[method]["context"] = recognizer.phrases(search.phrases_by_method[method])
    return search


def read_tuned(path: str, models: Mapping[str, str | None], phrases: str | None) -> dict[str, dict[str, float]]:
    """Method → weights, as `voxkit tune` wrote them, for searches with these phrases and language models (each of LANGUAGE_MODELS: its
    path).

    Raises:
        ValueError: not such a file, or weights for a search with a language model or phrases that this one lacks, the other way round, or
            with another language model.
    """
    if not Path(path).is_file():
        raise ValueError(f"--tuned {path}: no such file; `voxkit tune RUN --set SET --methods ...` writes it")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        methods = {method: {name: found[name] for name in (*WEIGHTS, "boost") if name in found}
                   for method, found in content["methods"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--tuned {path}: not a file that `voxkit tune` wrote ({error!r})") from error
    for name, now in [*models.items(), ("phrases", phrases)]:
        option, then = "--" + name.replace("_", "-"), content.get(name)
        where = then["path"] if isinstance(then, dict) else then
        if bool(then) != bool(now):
            want = f"give {option}" if then else f"leave {option} away"
            raise ValueError(f"--tuned {path}: its weights are for searches {'with' if then else 'without'} {option} ({where}); {want}, "
                             "or tune anew")
        if isinstance(then, dict) and now and sha256(Path(now)) != then["sha256"]:
            raise ValueError(f"--tuned {path}: its weights were found with the language model {where}, and {option} {now} is another one "
                             "(SHA-256 differs); tune anew with it")
        if name in models and now and not isinstance(then, dict):
            print(f"--tuned {path}: it does not say which language model its weights are for; tune anew to be sure that it is {now}")
    return methods


def read_phrases(path: str, boost: float) -> dict[str, float]:
    """Phrase → boost per token.

    Raises:
        ValueError: no such file, no phrase in it, or a boost that is no number; with the line.
    """
    if not Path(path).is_file():
        raise ValueError(f"--phrases {path}: no such file; write one phrase a line")
    out: dict[str, float] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        phrase, _, own = line.partition("\t")
        phrase = " ".join(phrase.split())
        if not phrase:
            continue
        try:
            out[phrase] = float(own) if own.strip() else boost
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: boost {own.strip()!r} is no number; a line is PHRASE or PHRASE<TAB>BOOST") from error
    if not out:
        raise ValueError(f"--phrases {path}: it holds no phrase; leave the option away where there are none")
    return out
