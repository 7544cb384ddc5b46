"""The options of searching that decode, transcribe and hallucinate share, and what they make of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


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
    group.add_argument("--boost", type=float, default=1.5, help="of each token of a phrase that has none of its own, in nats")
    group.add_argument("--graph", help="decoding graph of the k2 methods (`voxkit lm graph` makes it)")


@dataclass
class Search:
    """Options as the recipe and the command line say, with what they name loaded.

    Attributes:
        options: without a method; phrases: phrase → boost, as read.
    """

    options: Any
    phrases: dict[str, float]

    def of(self, method: str, **changes: Any) -> Any:
        """Options of one method: greedy search takes no language model, so that it can stand beside others in one table."""
        lm = None if method == "greedy" or method.startswith("k2_") else self.options.lm
        return replace(self.options, method=method, lm=lm, **changes)

    def label(self, method: str) -> str:
        """Name of the method with what is fused, for tables and files."""
        options = self.of(method)
        parts = [method, *([f"lm{options.lm_weight:g}"] if options.lm is not None else []),
                 *([f"phrases{len(self.phrases)}"] if options.context is not None else [])]
        return "_".join(parts)


def build_search(args: argparse.Namespace, recognizer: Any, decode: Any, **changes: Any) -> Search:
    """From the command line over the recipe's DecodeConfig.

    Raises:
        ValueError: a phrase list that is empty or cannot be read, a language model over other tokens.
    """
    from voxkit.infer.recognizer import SearchOptions

    phrases = read_phrases(args.phrases, args.boost) if args.phrases else {}
    given = {name: getattr(args, name) for name in ("beam", "ctc_weight", "lm_weight", "length_bonus", "coverage", "length_power")}
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
    return Search(SearchOptions(**settled, lm=lm, context=context, graph=graph, **changes), phrases)


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
