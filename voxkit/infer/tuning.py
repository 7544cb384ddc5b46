"""Choosing the weights of a search on a development set: the set is encoded once, then searched with one setting after another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from voxkit.eval.wer import score
from voxkit.infer.decoding import EncodedBatch
from voxkit.infer.recognizer import Recognizer, SearchOptions

Setting = tuple[tuple[str, float], ...]


def word_error_rate(recognizer: Recognizer, batches: Sequence[EncodedBatch], options: SearchOptions, normalise: str = "none") -> float:
    """WER of one setting, in [0, ...)."""
    references = {id: text for batch in batches for id, text in zip(batch.ids, batch.texts)}
    found = {id: h.text for batch in batches for id, h in zip(batch.ids, recognizer.search(batch.encoded, options))}
    return score(references, found, normalise=normalise).rate


def coordinate_search(measure: Callable[[Mapping[str, float]], float], choices: Mapping[str, Sequence[float]],
                      together: Sequence[str] = ()) -> dict[Setting, float]:
    """Minimise over a grid, one coordinate at a time, from the first value of each, until a whole round changes nothing.

    Args:
        measure: setting → what is to be small; called once for each setting.
        choices: coordinate → its values. The order decides which coordinate is tried first.
        together: coordinates that are tried in all their combinations, as one, because the best value of one depends on the others'.

    Returns:
        Everything that was tried; the best is `min(tried, key=tried.get)`, of equals the first.
    """
    tried: dict[Setting, float] = {}

    def value(setting: Mapping[str, float]) -> float:
        key = tuple(setting.items())
        if key not in tried:
            tried[key] = measure(setting)
        return tried[key]

    joined = tuple(name for name in choices if name in together)
    blocks = list(dict.fromkeys(joined if name in together else (name,) for name in choices))
    best = {name: values[0] for name, values in choices.items()}
    lowest, moved = value(best), True
    while moved:
        moved = False
        for names in blocks:
            for candidate in itertools.product(*(choices[name] for name in names)):
                setting = {**best, **dict(zip(names, candidate))}
                if value(setting) < lowest:
                    best, lowest, moved = setting, value(setting), True
    return tried
