"""Choosing the weights of a search on a development set: the set is encoded once, then searched with one setting after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxkit.data.loader import build_eval_loader
from voxkit.eval.wer import score
from voxkit.infer.decoding import none_readable
from voxkit.infer.recognizer import Encoded, Recognizer, SearchOptions

Setting = tuple[tuple[str, float], ...]


@dataclass
class EncodedSet:
    """A set that went through the encoder: batches, ids of each, references by id, what could not be read (id → reason)."""

    batches: list[Encoded] = field(default_factory=list)
    ids: list[list[str]] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def encode_set(recognizer: Recognizer, cuts: Any, data: Any, name: str) -> EncodedSet:
    """Encode every cut, in batches.

    Args:
        cuts: eager CutSet; data: the recipe's DataConfig; name: of the set, for messages.

    Raises:
        ValueError: there are no cuts, or none of the audio can be read.
    """
    if not len(cuts):
        raise ValueError(f"set {name} is empty: there is nothing to tune on; prepare it anew or name another")
    out = EncodedSet()
    loader = build_eval_loader(cuts, recognizer.tokenizer, data)
    for batch in loader:
        out.batches.append(recognizer.encode(batch))
        out.ids.append(list(batch.ids))
        out.references |= dict(zip(batch.ids, batch.texts or [""] * len(batch.ids)))
    out.failures = dict(loader.failures)
    if not out.references:
        raise ValueError(none_readable(name, len(cuts), out.failures))
    return out


def word_error_rate(recognizer: Recognizer, encoded: EncodedSet, options: SearchOptions, normalise: str = "none") -> float:
    """WER of one setting, in [0, ...)."""
    found = {id: h.text for ids, batch in zip(encoded.ids, encoded.batches) for id, h in zip(ids, recognizer.search(batch, options))}
    result = score(encoded.references, found, normalise=normalise)
    return result.errors / max(1, result.words)


def coordinate_search(measure: Callable[[Mapping[str, float]], float], choices: Mapping[str, Sequence[float]]) -> dict[Setting, float]:
    """Minimise over a grid, one coordinate at a time, from the first value of each, until a whole round changes nothing.

    Args:
        measure: setting → what is to be small; called once for each setting.
        choices: coordinate → its values. The order decides which coordinate is tried first.

    Returns:
        Everything that was tried; the best is `min(tried, key=tried.get)`, of equals the first.
    """
    tried: dict[Setting, float] = {}

    def value(setting: Mapping[str, float]) -> float:
        key = tuple(setting.items())
        if key not in tried:
            tried[key] = measure(setting)
        return tried[key]

    best = {name: values[0] for name, values in choices.items()}
    lowest, moved = value(best), True
    while moved:
        moved = False
        for name, values in choices.items():
            for candidate in values:
                setting = {**best, name: candidate}
                if value(setting) < lowest:
                    best, lowest, moved = setting, value(setting), True
    return tried
