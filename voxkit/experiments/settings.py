"""What searches are given, as plain values, whoever says it: a command line, a record, Python code. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from voxkit.search.weights import WEIGHTS

BOOST = 1.5  # nats per token of a phrase
PROMPT = ("instruction", "language", "previous")  # what a language model is told
LANGUAGE_MODELS = ("lm", "rescore_lm")  # attributes of SearchSettings and SearchOptions
MODELS = {"lm": "language model (--lm)", "rescore_lm": "language model (--rescore-lm)", "graph": "graph (--graph)"}

# what `voxkit tune` tries: name of the values → the weight that they are of, and the values themselves
COORDINATES = {"ctc_weights": "ctc_weight", "lm_weights": "lm_weight", "rescore_weights": "rescore_weight",
               "length_bonuses": "length_bonus", "length_limits": "length_limit", "boosts": "boost"}
GRID = {"ctc_weights": (0.3, 0.5, 0.7, 0.9), "lm_weights": (0.3, 0.1, 0.5, 0.8), "rescore_weights": (0.3, 0.1, 0.5, 0.8),
        "length_bonuses": (0.0, 0.5, 1.0, 2.0, 3.0), "length_limits": (1.2, 1.0), "boosts": (1.5, 1.0, 2.0, 3.0)}

# weight, or values of it that are tried → what must be given for it to count, one of these
_NEEDS = {"lm_weight": ("lm",), "rescore_weight": ("rescore_lm",), "rescore_nbest": ("rescore_lm",), "boost": ("phrases",),
          "lm_weights": ("lm",), "rescore_weights": ("rescore_lm",), "boosts": ("phrases",), "length_bonuses": ("lm", "rescore_lm")}
_FOR_ALL = ("beam", "lm_weight", "rescore_weight", "rescore_nbest")  # greedy search is a beam of one; the others are _NEEDS' affair


@dataclass(frozen=True)
class SearchSettings:
    """What is said about searches besides their methods; what is not said is as the run's DecodeConfig has it.

    Attributes:
        weights: name of `voxkit.search.weights.WEIGHTS` → number.
        lm: language model over the tokens (ARPA, KenLM binary, a neural one's folder); rescore_lm: pretrained one over text, a Hugging
            Face name or folder; graph: decoding graph of the k2 methods.
        phrases: phrase → nats per token, None: `boost`.
        boost: of phrases that have none of their own.
        times: of words that CTC says, "alignment" or "peaks"; None: as the way of decoding has it.
        instruction, language, previous: what a language model that reads audio (method generate) is told; None: as in training. Phrases go
            into its prompt.
        stop: whether it is stopped where it says what nobody said.
        tuned: file of weights for each method that `voxkit tune` wrote, "": the one kept in the run, None: none. What is given here goes
            before.
    """

    weights: Mapping[str, Any] = field(default_factory=dict)
    lm: str | None = None
    rescore_lm: str | None = None
    graph: str | None = None
    phrases: Mapping[str, float | None] = field(default_factory=dict)
    boost: float | None = None
    times: str | None = None
    instruction: str | None = None
    language: str | None = None
    previous: str | None = None
    stop: bool = True
    tuned: str | None = None

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(WEIGHTS)):
            raise ValueError(f"weights: {unknown[0]!r} is none of {', '.join(WEIGHTS)}")

    def given(self, name: str) -> Any:
        """A weight, or the boost; None where it is not given."""
        return self.boost if name == "boost" else self.weights.get(name)

    def boosted(self, boost: float | None = None) -> dict[str, float]:
        """Phrase → nats per token; `boost` in the place of the settings' own."""
        default = boost if boost is not None else BOOST if self.boost is None else self.boost
        return {phrase: default if own is None else own for phrase, own in self.phrases.items()}

    @property
    def named(self) -> dict[str, Any]:
        """Everything by the names that options have."""
        return {**asdict(self), **self.weights}

    def check(self, methods: Sequence[str], tried: Mapping[str, Any] | None = None) -> None:
        """Refuse what would count for nothing: else a result would pass for that of a weight that never took part.

        Args:
            methods: of the searches.
            tried: values of COORDINATES that are to be tried.

        Raises:
            ValueError: it names the weight and what it is for.
        """
        tried = tried or {}
        told = [name for name in PROMPT if getattr(self, name) is not None] + ([] if self.stop else ["no_stop"])
        if told and "generate" not in methods:
            raise ValueError(f"{option(told[0])}: {', '.join(methods)} would not look at it; it is for generate, where a language model "
                             "reads the audio. Name that method, or omit it")
        check_needs({**self.named, **tried})
        check_looked_at({**self.weights, **tried}, methods)


def check_needs(options: Mapping[str, Any]) -> None:
    """Refuse weights of a language model or of phrases where there are none.

    Args:
        options: name → what was given, or None.

    Raises:
        ValueError: it names the weight and what it is for.
    """
    for name, needed in _NEEDS.items():
        if options.get(name) is not None and not any(options.get(one) for one in needed):
            what = " or ".join(map(option, needed))
            raise ValueError(f"{option(name)} {_shown(options[name])}: there is no {what} for which it would count; give one, or omit it")


def check_looked_at(options: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Refuse weights that none of the methods looks at.

    Args:
        options: name → what was given, or None; also values that are to be tried.

    Raises:
        ValueError: it names the weight and the methods that look at it.
    """
    from voxkit.search.method import methods_that_look_at

    for name, value in options.items():
        weight = COORDINATES.get(name, name)
        able = methods_that_look_at(weight) if weight in WEIGHTS and weight not in _FOR_ALL else []
        if value is not None and able and not set(able) & set(methods):
            raise ValueError(f"{option(name)} {_shown(value)}: {', '.join(methods)} would not look at it; it is for {', '.join(able)}. "
                             "Name one of these, or omit it")


def option(name: str) -> str:
    """The option of the command line that gives a setting."""
    return f"--{name.replace('_', '-')}"


def _shown(value: Any) -> str:
    return " ".join(f"{one:g}" for one in (value if isinstance(value, (list, tuple)) else [value]))
