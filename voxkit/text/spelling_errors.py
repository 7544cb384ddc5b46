"""Text as a recognizer might have heard it: letters wrong, left out, doubled or put in, words left out, torn apart or joined.

A language model that learns to write the right text from such a one needs no audio for it: the way to a domain of which there is text
alone.
"""

from __future__ import annotations

import math
import random

_VOWELS, _CONSONANTS = "aeiouy", "bcdfghjklmnpqrstvwxz"
_ALIKE = {"b": "p", "p": "b", "d": "t", "t": "d", "g": "k", "k": "gc", "c": "k", "f": "v", "v": "fw", "s": "z", "z": "s", "m": "n",
          "n": "m", "l": "r", "r": "l", "i": "ey", "e": "ia", "a": "oe", "o": "au", "u": "o", "y": "i", "w": "v", "j": "g", "x": "s",
          "q": "k"}


def misspell(text: str, rng: random.Random, rate: float, word_rate: float = 0.0) -> str:
    """The text with errors.

    Args:
        rng: decides all of them.
        rate: errors per letter, in the mean over texts: each text has a rate of its own between 0 and twice this.
        word_rate: words left out, torn apart or joined to the next one, per word, likewise.

    Raises:
        ValueError: a rate that is no share of at most a half.
    """
    for name, value in (("rate", rate), ("word_rate", word_rate)):
        if not 0 <= value <= 0.5 or math.isnan(value):
            raise ValueError(f"{name} is {value}: a share between 0 and 0.5")
    per_letter, per_word = 2 * rng.random() * rate, 2 * rng.random() * word_rate
    words: list[str] = []
    for word in text.split():
        draw = rng.random() / per_word if per_word else math.inf
        if draw < 1 / 3:
            continue
        word = "".join(_letter(c, rng) if rng.random() < per_letter else c for c in word)
        if draw < 2 / 3 and len(word) > 3:
            cut = rng.randrange(1, len(word))
            word = f"{word[:cut]} {word[cut:]}"
        elif 2 / 3 <= draw < 1 and words:
            word = words.pop() + word
        words.append(word)
    return " ".join(word for word in words if word)


def _letter(letter: str, rng: random.Random) -> str:
    """One error at a letter."""
    lower = letter.lower()
    if lower not in _ALIKE:  # of another script: left out or doubled
        return rng.choice(("", letter * 2))
    kind = rng.random()
    if kind < 0.2:
        return ""
    if kind < 0.3:
        return letter * 2
    if kind < 0.5:
        return letter + _cased(rng.choice(_VOWELS if lower in _CONSONANTS else _CONSONANTS), letter)
    alike = _ALIKE[lower] if kind < 0.85 else _VOWELS if lower in _VOWELS else _CONSONANTS
    return _cased(rng.choice(alike), letter)


def _cased(letter: str, like: str) -> str:
    return letter.upper() if like.isupper() else letter
