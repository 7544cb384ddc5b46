"""The options of searching that decode, tune, transcribe, hallucinate and serve share, and what they make of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_BOOST = 1.5
_WEIGHTS = ("beam", "ctc_weight", "lm_weight", "length_bonus", "coverage", "length_power")


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Register them."""
    group = parser.add_argument_group("search")
    group.add_argument("--beam", type=int, help="hypotheses kept")
    group.add_argument("--ctc-weight", type=float, help="of the CTC score in joint decoding and rescoring")
    group.add_argument("--lm", help="language model over the tokens: ARPA, KenLM binary, or the directory of a neural one")
    group.add_argument("--lm-weight", type=float)
    group.add_argument("--length-bonus", type=float, help="per token")
    group.add_argument("--coverage", type=float, help="attention, joint: weight of frames attended to")
    group.add_argument("--length-power", type=float, help="attention, joint: scores are divided by length to this power")
    group.add_argument("--phrases", help="file of phrases to favour, one a line, each maybe with PHRASE<TAB>BOOST of its own")
    group.add_argument("--boost", type=float, help=f"of each token of a phrase that has none of its own, in nats; by default {_BOOST}")
    group.add_argument("--graph", help="decoding graph of the k2 methods (`voxkit lm graph` makes it)")


@dataclass
class Search:
    """Options as the recipe and the command line say, with what they name loaded.

    Attributes:
        options: without a method; phrases: phrase → boost, as read; recognizer: whose searches they are for.
        by_method: method → options of its own (`--tuned`).
        phrases_by_method: likewise, phrases with the boost that was tuned.
    """

    options: Any
    phrases: dict[str, float]
    recognizer: Any
    by_method: dict[str, dict[str, Any]] = field(default_factory=dict)
    phrases_by_method: dict[str, dict[str, float]] = field(default_factory=dict)

    def check(self, methods: list[str]) -> None:
        """Print which of the methods go without the language model or the phrases that were given, because they take none, and which
        without tuned weights, because the file has none for them.

        Raises:
            ValueError: a method that the model lacks, one without the graph that it needs, or something was given that none of them takes.
        """
        from voxkit.infer.fusion import FUSED

        for method in methods:
            self.recognizer.check(method)
            self.recognizer.check_graph(self._whole(method))
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
                 *([f"phrases{len(self.phrases)}"] if options.context is not None else [])]
        return "_".join(parts)


def build_search(args: argparse.Namespace, recognizer: Any, decode: Any, **changes: Any) -> Search:
    """From the command line over what was tuned, over the recipe's DecodeConfig.

    Raises:
        ValueError: a phrase list that is empty or cannot be read, a language model over other tokens, a file of tuned weights that is none
            or does not fit.
    """
    from voxkit.infer.recognizer import SearchOptions

    phrases = read_phrases(args.phrases, _BOOST if args.boost is None else args.boost) if args.phrases else {}
    given = {name: getattr(args, name) for name in _WEIGHTS}
    settled = {name: getattr(decode, name) if value is None else value for name, value in given.items()}
    lm = recognizer.language_model(args.lm) if args.lm else None
    context = recognizer.phrases(phrases) if phrases else None
    graph = None
    if args.graph:
        from voxkit.search.k2_graphs import load_graph

        graph = load_graph(args.graph, recognizer.device)
        if graph.tokenizer not in ("", recognizer.tokenizer.fingerprint()):
            raise ValueError(f"--graph {args.graph}: it was made with another tokenizer; make it with `voxkit lm graph --tokenizer` and "
                             "the model's own")
    search = Search(SearchOptions(**settled, lm=lm, context=context, graph=graph, **changes), phrases, recognizer)
    for method, tuned in read_tuned(args).items() if getattr(args, "tuned", None) is not None else ():
        search.by_method[method] = {name: value for name, value in tuned.items() if given.get(name, True) is None}
        if "boost" in tuned and args.boost is None:
            search.phrases_by_method[method] = read_phrases(args.phrases, tuned["boost"])
            search.by_method[method]["context"] = recognizer.phrases(search.phrases_by_method[method])
    return search


def read_tuned(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Method → weights, as `voxkit tune` wrote them.

    Raises:
        ValueError: not such a file, or weights for a search with a language model or phrases that this one lacks, or the other way round.
    """
    if not Path(args.tuned).is_file():
        raise ValueError(f"--tuned {args.tuned}: no such file; `voxkit tune RUN --set SET --methods ...` writes it")
    try:
        content = json.loads(Path(args.tuned).read_text(encoding="utf-8"))
        methods = {method: {name: found[name] for name in (*_WEIGHTS, "boost") if name in found}
                   for method, found in content["methods"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--tuned {args.tuned}: not a file that `voxkit tune` wrote ({error!r})") from error
    for option in ("lm", "phrases"):
        if bool(content.get(option)) != bool(getattr(args, option)):
            want = f"give --{option}" if content.get(option) else f"leave --{option} away"
            raise ValueError(f"--tuned {args.tuned}: its weights are for searches {'with' if content.get(option) else 'without'} --{option}"
                             f" ({content.get(option)}); {want}, or tune anew")
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
