"""Choosing the weights of a search on a development set: the set is encoded once, then searched with one setting after another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from voxkit.eval.wer import score
from voxkit.infer.decoding import EncodedBatch
from voxkit.infer.recognizer import Recognizer, SearchOptions

Setting = tuple[tuple[str, float], ...]


def word_error_rate(recognizer: Recognizer, batches: Sequence[EncodedBatch], options: SearchOptions, normalize: str = "none",
                    below: float = math.inf) -> tuple[float, bool]:
    """WER of one setting, in [0, ...), and whether all batches were searched for it.

    Errors only become more: as soon as those so far make a rate of `below` or above the rest is left out, and the rate is what it comes to
    at least. A setting that cannot be the best costs little so, and the worse it is the less.
    """
    texts = [dict(zip(batch.ids, batch.texts)) for batch in batches]
    words, errors = sum(score(text, text, normalize=normalize).words for text in texts), 0
    for i, (batch, references) in enumerate(zip(batches, texts), 1):
        found = {id: h.text for id, h in zip(batch.ids, recognizer.search(batch.encoded, options))}
        errors += score(references, found, normalize=normalize).errors
        if errors >= below * words and i < len(batches):
            return errors / words, False
    return errors / words if words else (math.inf if errors else 0.0), True


def coordinate_search(measure: Callable[[Mapping[str, float]], float], choices: Mapping[str, Sequence[float]],
                      together: Sequence[str] = ()) -> dict[Setting, float]:
    """Minimize over a grid, one coordinate at a time, from the first value of each, until a whole round changes nothing.

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
