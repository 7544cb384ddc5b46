"""The options of searching that decode, tune, transcribe, hallucinate and serve share, and the settings they make."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from voxkit.cli.arguments import limit
from voxkit.search.weights import WEIGHTS

if TYPE_CHECKING:
    from voxkit.experiments.settings import SearchSettings


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Register them."""
    group = parser.add_argument_group("search")
    group.add_argument("--beam", type=int, help="hypotheses kept")
    group.add_argument("--ctc-weight", type=float, help="of the CTC score in joint decoding, rescoring and a Paraformer's beam")
    group.add_argument("--lm", help="language model over the tokens: ARPA, KenLM binary, or the directory of a neural one")
    group.add_argument("--lm-weight", type=float, help="of its log-probability")
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
    group.add_argument("--phrases", "--hotwords", metavar="FILE",
                       help="hotwords (contextual biasing, word boosting): phrases to favor, one a line, each maybe with PHRASE<TAB>BOOST")
    group.add_argument("--boost", type=float, help="of each token of a phrase that has none of its own, in nats; by default 1.5")
    group.add_argument("--instruction", metavar="TEXT", help="generate: what the language model is told, by default as in training; "
                                                             "--phrases are told too")
    group.add_argument("--language", metavar="NAME", help="generate: the language that it is told")
    group.add_argument("--previous", metavar="TEXT", help="generate: what was said before, that it is told")
    group.add_argument("--stop", action=argparse.BooleanOptionalAction, default=True,
                       help="of a language model, and of a decoder without CTC: whether it is stopped in a loop and where nobody speaks "
                            "(by default it is)")
    group.add_argument("--graph", help="decoding graph of the k2 methods (`voxkit lm graph` makes it)")


def search_settings(args: argparse.Namespace) -> SearchSettings:
    """What the options say.

    Raises:
        ValueError: the file of phrases is none.
    """
    from voxkit.experiments.settings import SearchSettings
    from voxkit.text.phrases import read_phrases

    weights = {name: value for name in WEIGHTS if (value := getattr(args, name)) is not None}
    return SearchSettings(weights, args.lm, args.rescore_lm, args.graph, read_phrases(args.phrases) if args.phrases else {}, args.boost,
                          getattr(args, "times", None), args.instruction, args.language, args.previous, args.stop,
                          getattr(args, "tuned", None))


def add_set_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Register what the commands that search prepared sets have besides: where those are, how texts are compared, where results go (`out`
    by default), the device, overrides."""
    parser.add_argument("--data-dir", help="of prepared sets; by default as in training")
    parser.add_argument("--normalize", help="of references and hypotheses before scoring: none, librispeech, ...; by default the "
                                            "configuration's decode.normalize")
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
                        help="of words that CTC says: what was recognized is aligned (default), or the peaks that the search saw count "
                             "(with --stream always)")


def add_chunk_arguments(parser: argparse.ArgumentParser, stream: str, chunk: str) -> None:
    """Register --stream, --chunk-ms and --left-ms; `stream` and `chunk` say what the first two do."""
    group = parser.add_argument_group("streaming, of a causal model")
    group.add_argument("--stream", action="store_true", help=stream)
    group.add_argument("--chunk-ms", type=float, metavar="MS", help=chunk)
    group.add_argument("--left-ms", type=float, metavar="MS", help="how much is seen before a chunk; by default as much as in training")


def refuse_beside_config(args: argparse.Namespace, usual: dict[str, Any]) -> None:
    """Of options that --config says.

    Args:
        usual: further options and what they are where nobody gives them.

    Raises:
        ValueError: some of them were given.
    """
    from voxkit.experiments.settings import SearchSettings, option

    search, nothing = search_settings(args), SearchSettings()
    given = [name for name in SearchSettings.__dataclass_fields__ if getattr(search, name) != getattr(nothing, name)]
    given += [name for name, value in usual.items() if getattr(args, name) != value]
    if given:
        names = ", ".join(map(option, search.weights if given[0] == "weights" else given))
        raise ValueError(f"{names}: {args.config} says how to search; change it there, or omit --config")


def job_fields(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options that are fields of a job of the same name; lists as tuples."""
    values = {name: getattr(args, name) for name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
