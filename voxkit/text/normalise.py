"""Transcripts made uniform before training, by a named rule: `normalise("librispeech", "Heal me, now!")` is "HEAL ME NOW".

Every rule may be applied twice with the same result, and an empty result means that the utterance has no transcript left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'"))
_ACCENT_ON_LATIN = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f]+")
_LONELY_APOSTROPHE = re.compile(r"(?<!\w)'+(?!\w)")


def none(text: str) -> str:
    """As written: composed Unicode (NFC), white space squeezed to single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def lower(text: str) -> str:
    """As written, in lower case; punctuation stays."""
    return none(none(text).lower())


def librispeech(text: str) -> str:
    """LibriSpeech's convention: upper case, no punctuation but the apostrophe, no accents on Latin letters.

    Hyphens and dashes part words, `&` is AND; digits stay, since how a number is read is known only from the audio.
    """
    text = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES))
    text = _ACCENT_ON_LATIN.sub("", text).translate(_APOSTROPHES).replace("&", " and ")
    text = "".join(c if c == "'" or unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return none(_LONELY_APOSTROPHE.sub(" ", text).upper())


NORMALISATIONS: dict[str, Callable[[str], str]] = {"none": none, "librispeech": librispeech, "lower": lower}


def normalisation(name: str) -> Callable[[str], str]:
    """The rule of that name.

    Raises:
        ValueError: no such rule; the message lists those there are.
    """
    if name not in NORMALISATIONS:
        raise ValueError(f"text normalisation {name!r} is not known; there are: {', '.join(NORMALISATIONS)}")
    return NORMALISATIONS[name]


def normalise(name: str, text: str) -> str:
    """Apply the rule `name` to one transcript."""
    return normalisation(name)(text)
