"""Text normalization before scoring, by name: the rules of voxkit.text.normalize, and Whisper's English rule.

`whisper-english` is the published one (Radford et al. 2022, appendix C: spelling, numbers, contractions, fillers), from the
whisper-normalizer package, so that figures compare with those in the literature.
"""

from __future__ import annotations

import functools
from typing import Callable

from voxkit.optional import require
from voxkit.text.normalize import NORMALIZATIONS

WHISPER = "whisper-english"


def names() -> list[str]:
    """The rules there are."""
    return [*NORMALIZATIONS, WHISPER]


@functools.lru_cache(maxsize=1)
def _whisper_english() -> Callable[[str], str]:
    module = require("whisper_normalizer.english", "score", why=f"the text normalization {WHISPER}")
    return module.EnglishTextNormalizer()


def normalization(name: str) -> Callable[[str], str]:
    """The rule of that name.

    Raises:
        ValueError: no such rule; the message lists those there are.
    """
    if name == WHISPER:
        return _whisper_english()
    if name not in NORMALIZATIONS:
        raise ValueError(f"text normalization {name!r} is not known; there are: {', '.join(names())}")
    return NORMALIZATIONS[name]
