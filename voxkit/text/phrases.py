"""Lists of phrases to favor (hotwords, contextual biasing, word boosting): one a line, maybe with a boost of its own behind a tab."""

from __future__ import annotations

import math
import os
from pathlib import Path

from voxkit.files import read_lines


def read_phrases(path: str | os.PathLike) -> dict[str, float | None]:
    """Phrase → its own boost per token in nats, None where it has none.

    Raises:
        ValueError: no such file, another encoding, no phrase in it, a boost that is no finite number, or one phrase with two boosts; with
            the line.
    """
    if not Path(path).is_file():
        raise ValueError(f"--phrases {path}: no such file; write one phrase a line")
    out: dict[str, float | None] = {}
    for number, line in enumerate(read_lines(path), 1):
        phrase, _, own = line.partition("\t")
        phrase, own = " ".join(phrase.split()), own.strip()
        if not phrase:
            if own:
                raise ValueError(f"{path}, line {number}: a boost without a phrase; a line is PHRASE or PHRASE<TAB>BOOST")
            continue
        value = _boost(own, f"{path}, line {number}") if own else None
        if out.setdefault(phrase, value) != value:
            raise ValueError(f"{path}, line {number}: {phrase!r} has been there before, {_with(out[phrase])}; keep one")
    if not out:
        raise ValueError(f"--phrases {path}: it holds no phrase; omit the option where there are none")
    return out


def _with(boost: float | None) -> str:
    return "without a boost" if boost is None else f"with the boost {boost:g}"


def _boost(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: boost {text!r} is no finite number; a line is PHRASE or PHRASE<TAB>BOOST")
    return value
