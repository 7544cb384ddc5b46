"""Every search there is, one row each: what it needs of a model, what it takes, which options it looks at. Commands, recognizer, streams,
tuning and records read these rows and know no method by name.

To add a search: write a function `run(heard, options, vocabulary)` beside those of its kind (ctc_methods.py, decoder_methods.py, ...) that
gives a list of hypotheses per utterance, best first, each with `tokens`, `score` and `token_log_probs`; add its row to METHODS. A new kind
of head is a field of `Heads` besides, with its name in NAMES (heads.py); a new weight is a field of `SearchOptions` (options.py) and a name
in WEIGHTS (weights.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from voxkit.search import ctc_methods, decoder_methods, graph_methods, llm_methods, parallel_methods, transducer_methods
from voxkit.search.heads import NAMES, Heads, Heard
from voxkit.search.options import SearchOptions
from voxkit.search.weights import FUSED
from voxkit.text.vocabulary import Vocabulary


class Incremental(Protocol):
    """A search that is fed part by part."""

    def init(self, size: int, device: torch.device | str = "cpu") -> Any:
        """State of `size` utterances before their first frame."""

    def advance(self, state: Any, states: Tensor, lengths: Tensor) -> Any:
        """Consume states [B, T, D], lengths [B] valid ones → the search's state after them."""

    def nbest(self, state: Any, nbest: int = 1, *, final: bool = True) -> list[list[Any]]:
        """The best hypotheses of each utterance, best first; `final` False for partial results."""


def _anything(options: SearchOptions, vocabulary: Vocabulary) -> None:
    """Most methods take any options."""


@dataclass(frozen=True)
class Method:
    """One search. Several rows may have one name: that of the first whose heads a model has is what the name means there.

    Attributes:
        name: as users say it.
        run: the search.
        needs: heads (fields of `Heads`) that it reads.
        takes: which of FUSED it takes; why: why it takes no others.
        weights: which of WEIGHTS (weights.py) it looks at, those of what it takes apart.
        times: how the times of its words can be had, the usual way first (`voxkit.infer.words.WAYS`): "alignment" by CTC, the "peaks" or
            emissions that the search saw, the "fires" of CIF, an alignment "head"; empty: not at all.
        power: by which power of its length it divides a score, where the options do not say; None: it does not.
        streams: the search to be fed part by part; None: it takes the whole utterance.
        scores_tokens: whether its hypotheses say how likely each token is.
        graph: whether it searches the options' graph.
        check: refuses options that this method cannot work with (MissingPackage, ValueError).
    """

    name: str
    run: Callable[[Heard, SearchOptions, Vocabulary], list[list[Any]]]
    needs: tuple[str, ...]
    takes: tuple[str, ...] = tuple(FUSED)
    why: str = ""
    weights: tuple[str, ...] = ()
    times: tuple[str, ...] = ("alignment",)
    power: float | None = None
    streams: Callable[[Heads, SearchOptions], Incremental] | None = None
    scores_tokens: bool = True
    graph: bool = False
    check: Callable[[SearchOptions, Vocabulary], None] = _anything

    @property
    def beam(self) -> bool:
        """Whether it keeps as many hypotheses as the options say."""
        return "beam" in self.weights

    def fits(self, heads: Heads) -> bool:
        """Whether a model has what it needs."""
        return not self.missing(heads)

    def missing(self, heads: Heads) -> list[str]:
        """Heads that it needs and a model lacks."""
        return [name for name in self.needs if getattr(heads, name) is None]

    def refused(self, options: SearchOptions) -> list[str]:
        """Which of FUSED the options hold and it does not take."""
        return [name for name in FUSED if name not in self.takes and getattr(options, name) is not None]

    def divides_by(self, options: SearchOptions) -> float:
        """The power of its length by which a hypothesis' score is divided."""
        if self.power is None:
            return 0.0
        return self.power if options.length_power is None else options.length_power


_ALONE = "it decides token by token, without what stands before, and finds one hypothesis"
_AT_ONCE = {"takes": (), "why": "it says all tokens at once, none knows of the others", "times": ("fires",)}
_BY_GRAPH = {"takes": (), "scores_tokens": False,
             "why": "it scores by its graph alone, which can hold a language model (`voxkit lm graph`)"}
_PEAKS = ("alignment", "peaks")
_BY_FRAME = {"takes": ("context",), "why": _ALONE, "weights": ("symbols_per_frame",), "times": ("peaks",),
             "streams": transducer_methods.stream_greedy}
_BY_LENGTH = ("length_bonus", "length_limit", "coverage", "length_power")
_SECOND_PASS = ("beam", "ctc_weight", "length_bonus")

METHODS = (
    Method("greedy", parallel_methods.greedy, ("parallel",), **_AT_ONCE),
    Method("greedy", ctc_methods.greedy, ("ctc",), takes=("context",), why=_ALONE, times=_PEAKS, streams=ctc_methods.stream_greedy),
    Method("greedy", transducer_methods.greedy, ("transducer",), **_BY_FRAME),
    Method("greedy", decoder_methods.greedy, ("decoder",), takes=(), why=_ALONE),
    Method("guided", parallel_methods.guided, ("parallel", "ctc"), **_AT_ONCE),
    Method("beam", parallel_methods.beam, ("parallel",), weights=("beam", "ctc_weight"), times=("fires",)),
    Method("ctc_greedy", ctc_methods.greedy, ("ctc", "parallel"), takes=("context",), why=_ALONE, times=_PEAKS),
    Method("prefix_beam", ctc_methods.prefix_beam, ("ctc",), weights=("beam", "length_bonus"), times=_PEAKS,
           streams=ctc_methods.stream_prefix_beam),
    Method("attention", decoder_methods.attention, ("decoder",), weights=("beam", *_BY_LENGTH), power=decoder_methods.ALONE),
    Method("joint", decoder_methods.joint, ("decoder", "ctc"), weights=("beam", "ctc_weight", *_BY_LENGTH), power=decoder_methods.JOINTLY),
    Method("rescoring", parallel_methods.rescoring, ("parallel", "ctc"), weights=_SECOND_PASS),
    Method("rescoring", decoder_methods.rescoring, ("decoder", "ctc"), weights=_SECOND_PASS),
    Method("transducer_greedy", transducer_methods.greedy, ("transducer",), **_BY_FRAME),
    Method("transducer_beam", transducer_methods.beam, ("transducer",),
           weights=("beam", "internal_lm_weight", "length_bonus", "length_power"), times=("peaks",), power=transducer_methods.BY_LENGTH,
           streams=transducer_methods.stream_beam),
    Method("k2_ctc", graph_methods.ctc, ("ctc",), check=graph_methods.check_package, **_BY_GRAPH),
    Method("k2_hlg", graph_methods.hlg, ("ctc",), graph=True, check=graph_methods.check_graph, **_BY_GRAPH),
    Method("k2_nbest", graph_methods.nbest, ("ctc",), weights=("beam",), graph=True, check=graph_methods.check_graph, **_BY_GRAPH),
    Method("k2_nbest_rescoring", graph_methods.nbest_rescoring, ("ctc",), weights=("beam",), graph=True,
           check=graph_methods.check_large_graph, **_BY_GRAPH),
    Method("k2_rescoring", graph_methods.rescoring, ("ctc",), graph=True, check=graph_methods.check_large_graph, **_BY_GRAPH),
    Method("generate", llm_methods.generate, ("llm", "ctc"), takes=("context",), times=("head",),
           why="it says what the language model finds likeliest, and phrases go into its prompt"),
)


def method_names(rows: Iterable[Method] = METHODS) -> list[str]:
    """Names of methods, each once."""
    return list(dict.fromkeys(row.name for row in rows))


def methods_of(heads: Heads) -> list[str]:
    """The searches that a model with these heads can do."""
    return method_names(row for row in METHODS if row.fits(heads))


def method_of(name: str, heads: Heads) -> Method:
    """What a name means for a model with these heads.

    Raises:
        ValueError: no method is called so, or none of that name can do with these heads; the message says which there are.
    """
    rows = [row for row in METHODS if row.name == name]
    fitting = [row for row in rows if row.fits(heads)]
    if fitting:
        return fitting[0]
    able = ", ".join(methods_of(heads)) or "none: it has no head"
    if not rows:
        raise ValueError(f"method {name!r} is none of {', '.join(method_names())}; this model can do {able}")
    missing = min((row.missing(heads) for row in rows), key=len)
    raise ValueError(f"method {name} needs {' and '.join(NAMES[head] for head in missing)}, and this model has none; use {able}")


def refusal(name: str, options: SearchOptions, heads: Heads) -> str | None:
    """Why the method `name` cannot take what the options hold of FUSED, and which of the model's methods can; None where it can."""
    row = method_of(name, heads)
    refused = row.refused(options)
    if not refused:
        return None
    able = [other for other in methods_of(heads) if not method_of(other, heads).refused(options)]
    what = " and no ".join(FUSED[one] for one in refused)
    return f"method {name} takes no {what}: {row.why}; use {', '.join(able) or 'another model, since no method of this one does'}"


def methods_that_look_at(weight: str) -> list[str]:
    """Names of the methods that look at a weight."""
    return method_names(row for row in METHODS if weight in row.weights)


def looks_at(name: str, weight: str) -> bool:
    """Whether a method looks at a weight, in whatever model."""
    return any(row.name == name and weight in row.weights for row in METHODS)


def streaming_methods() -> list[str]:
    """Names of the methods that need no more than what was heard so far."""
    return method_names(row for row in METHODS if row.streams is not None)
