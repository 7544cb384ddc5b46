"""Options of searching that would count for nothing where they were given are refused: else a result would pass for that of a weight that
never took part. Only what was typed counts; the recipe's configuration may hold whatever it likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# weights of a search: attributes of SearchOptions and of a recipe's DecodeConfig, keys of records
WEIGHTS = ("beam", "ctc_weight", "lm_weight", "rescore_weight", "rescore_nbest", "length_bonus", "length_limit", "coverage", "length_power")
# method → the weights that it looks at
LOOKED_AT = {"prefix_beam": ("beam", "length_bonus"), "attention": ("beam", "length_bonus", "length_limit", "coverage", "length_power"),
             "joint": ("beam", "ctc_weight", "length_bonus", "length_limit", "coverage", "length_power"),
             "rescoring": ("beam", "ctc_weight", "length_bonus"), "beam": ("beam", "ctc_weight"), "k2_nbest": ("beam",),
             "k2_nbest_rescoring": ("beam",)}
# weight, or values of it that `voxkit tune` tries → what must be given for it to count, one of these
NEEDS = {"lm_weight": ("lm",), "rescore_weight": ("rescore_lm",), "rescore_nbest": ("rescore_lm",), "boost": ("phrases",),
         "lm_weights": ("lm",), "rescore_weights": ("rescore_lm",), "boosts": ("phrases",), "length_bonuses": ("lm", "rescore_lm")}
# weight, or values of it that tune tries → the methods that look at it. A beam is not among them: greedy search is a beam of one
_BY_WEIGHT = {weight: [method for method, weights in LOOKED_AT.items() if weight in weights]
              for weight in ("ctc_weight", "length_bonus", "length_limit", "coverage", "length_power")}
_BY_WEIGHT |= {"ctc_weights": _BY_WEIGHT["ctc_weight"], "length_bonuses": _BY_WEIGHT["length_bonus"],
               "length_limits": _BY_WEIGHT["length_limit"]}


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
    for name, value in options.items():
        able = _BY_WEIGHT.get(name, ())
        if value is not None and able and not set(able) & set(methods):
            raise ValueError(f"{_option(name)} {_shown(value)}: {', '.join(methods)} would not look at it; it is for {', '.join(able)}. "
                             "Name one of these, or leave it away")


def counts(record: Mapping[str, Any], weight: str) -> bool:
    """Whether a weight took part in the search of a record."""
    if weight in NEEDS:
        return any(record.get(needed) for needed in NEEDS[weight])
    return weight == "beam" or weight in LOOKED_AT.get(record["method"], ())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: Any) -> str:
    return " ".join(f"{one:g}" for one in (value if isinstance(value, list) else [value]))
