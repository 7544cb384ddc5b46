"""Options of searching that would count for nothing where they were given are refused: else a result would pass for that of a weight that
never took part. Only what was typed counts; the recipe's configuration may hold whatever it likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from voxkit.search.weights import WEIGHTS

# weight, or values of it that `voxkit tune` tries → what must be given for it to count, one of these
NEEDS = {"lm_weight": ("lm",), "rescore_weight": ("rescore_lm",), "rescore_nbest": ("rescore_lm",), "boost": ("phrases",),
         "lm_weights": ("lm",), "rescore_weights": ("rescore_lm",), "boosts": ("phrases",), "length_bonuses": ("lm", "rescore_lm")}
# values that tune tries → the weight that they are of
_VALUES_OF = {"ctc_weights": "ctc_weight", "length_bonuses": "length_bonus", "length_limits": "length_limit"}
_FOR_ALL = ("beam", "lm_weight", "rescore_weight", "rescore_nbest")  # greedy search is a beam of one; the others are NEEDS' affair


def check_needs(options: Mapping[str, Any]) -> None:
    """Refuse weights of a language model or of phrases where there are none.

    Args:
        options: name → what was typed, or None.

    Raises:
        ValueError: it names the weight and what it is for.
    """
    for name, needed in NEEDS.items():
        if options.get(name) is not None and not any(options.get(one) for one in needed):
            what = " or ".join(map(_option, needed))
            raise ValueError(f"{_option(name)} {_shown(options[name])}: there is no {what} for which it would count; give one, or leave it "
                             "away")


def check_looked_at(options: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Refuse weights that none of the methods looks at.

    Args:
        options: name → what was typed, or None; also the values that `voxkit tune` tries.

    Raises:
        ValueError: it names the weight and the methods that look at it.
    """
    from voxkit.search.method import methods_that_look_at

    for name, value in options.items():
        weight = _VALUES_OF.get(name, name)
        able = methods_that_look_at(weight) if weight in WEIGHTS and weight not in _FOR_ALL else []
        if value is not None and able and not set(able) & set(methods):
            raise ValueError(f"{_option(name)} {_shown(value)}: {', '.join(methods)} would not look at it; it is for {', '.join(able)}. "
                             "Name one of these, or leave it away")


def counts(record: Mapping[str, Any], weight: str) -> bool:
    """Whether a weight took part in the search of a record."""
    from voxkit.search.method import looks_at

    if weight in NEEDS:
        return any(record.get(needed) for needed in NEEDS[weight])
    return weight == "beam" or looks_at(record["method"], weight)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: Any) -> str:
    return " ".join(f"{one:g}" for one in (value if isinstance(value, list) else [value]))
