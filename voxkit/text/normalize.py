"""Transcripts made uniform before training, by a named rule: `normalize("librispeech", "Heal me, now!")` is "HEAL ME NOW".

Every rule may be applied twice with the same result, and an empty result means that the utterance has no transcript left.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4`", "'"))
_ACCENT_ON_LATIN = re.compile(r"(?<=[A-Za-z])[\u0300-\u036f]+")
_LONELY_APOSTROPHE = re.compile(r"(?<!\w)'+(?!\w)")
# soft hyphen, zero-width space, direction marks, word joiner, byte order mark, ...: nobody sees them, nobody says them
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_JOINERS = re.compile("[\u200c\u200d]")  # they shape letters of Arabic and Indic scripts, and mean nothing elsewhere
_OPENING = re.compile(r"(?<!\w)[\u2018\u201b`'](?=\w)")
# English words that are written with an apostrophe before them, often in the shape of an opening mark
_ELIDED = re.compile(r"(?:tis|twas|twere|twill|em|cause|cos|cuz|n|til|till|round|bout|fore|neath|tween|gainst|\d+s?)(?!\w)", re.I)
_CLOSING = re.compile(r"(?<=[^\s\w])[\u2019\u00b4'](?!\w)|(?<=\w)[\u2019\u00b4'](?!\w)")


def none(text: str) -> str:
    """As written: composed Unicode (NFC), without what is invisible, white space squeezed to single blanks."""
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def lower(text: str) -> str:
    """As written, in lower case; punctuation stays."""
    return none(none(text).lower())


def librispeech(text: str) -> str:
    """LibriSpeech's convention: upper case, no punctuation but the apostrophe, no accents on Latin letters.

    Hyphens and dashes part words, `&` is AND; digits stay, since how a number is read is known only from the audio: `2½` is "2 1 2", `10²`
    is "10 2". Single quotation marks are no apostrophes: ‘Hello,’ is HELLO.
    """
    text = _without_quotes(_apart(_without_joiners(_INVISIBLE.sub("", text))))
    text = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES))
    text = _ACCENT_ON_LATIN.sub("", text).translate(_APOSTROPHES).replace("&", " and ")
    text = "".join(c if c == "'" or c in "\u200c\u200d" or unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return none(_LONELY_APOSTROPHE.sub(" ", text).upper())


def _without_joiners(text: str) -> str:
    """Zero-width joiners and non-joiners stay between letters of the scripts that they shape."""
    def kept(match: re.Match[str]) -> str:
        at = match.start()
        return match[0] if at and at + 1 < len(text) and all(_shaped(text[i]) for i in (at - 1, at + 1)) else ""

    return _JOINERS.sub(kept, text)


def _shaped(character: str) -> bool:
    """A letter or mark between Arabic and the scripts of India and its neighbors."""
    return "\u0600" <= character <= "\u109f" and unicodedata.category(character)[0] in "LM"


def _apart(text: str) -> str:
    """A blank between two numbers that are written against each other and are not one: a digit and a fraction or an exponent."""
    out = []
    for before, after in zip(" " + text, text):
        kinds = _number_kind(before), _number_kind(after)
        if all(kinds) and (kinds[0] != kinds[1] or kinds[0] not in ("digit", "<super>", "<sub>")):
            out.append(" ")
        out.append(after)
    return "".join(out)


def _number_kind(character: str) -> str:
    """ "digit", the way in which another numeral is written ("<fraction>", "<super>", "<circle>", ...), or nothing."""
    category = unicodedata.category(character)
    if category == "Nd":
        return "digit"
    return unicodedata.decomposition(character).split(" ")[0] or "other" if category == "No" else ""


def _without_quotes(text: str) -> str:
    """Single quotation marks taken out.

    An opening curly mark before a word closes with a mark that follows before the next opening one: behind punctuation, or at the end of a
    word, where one behind an s may be a genitive and comes last. It is one without that too, as transcripts are cut anywhere, but for
    elided words (‘tis). Straight marks are only taken for quotation marks if the closing one stands behind punctuation. All others are
    apostrophes.
    """
    openings = list(_OPENING.finditer(text))
    gone: set[int] = set()
    for n, opening in enumerate(openings):
        end = openings[n + 1].start() if n + 1 < len(openings) else len(text)
        closings = [m.start() for m in _CLOSING.finditer(text, opening.end(), end)]
        closings = [at for at in closings if at not in gone]
        surest = [at for at in closings if not text[at - 1].isalnum()]
        if opening[0] != "'":
            surest += [at for at in closings if text[at - 1].isalnum() and text[at - 1] not in "sS"]
            surest += closings
        if surest:
            gone |= {opening.start(), surest[0]}
        elif opening[0] != "'" and not _ELIDED.match(text, opening.end()):
            gone.add(opening.start())
    # a low or a single-angle mark opens what a high one closes, and no word ends in an opening mark
    gone |= {m.start() for m in re.finditer(r"(?<=[\w.,!?;:])\u2018(?!\w)", text)}
    return "".join(" " if i in gone else c for i, c in enumerate(text))


NORMALIZATIONS: dict[str, Callable[[str], str]] = {"none": none, "librispeech": librispeech, "lower": lower}


def normalization(name: str) -> Callable[[str], str]:
    """The rule of that name.

    Raises:
        ValueError: no such rule; the message lists those there are.
    """
    if name not in NORMALIZATIONS:
        raise ValueError(f"text normalization {name!r} is not known; there are: {', '.join(NORMALIZATIONS)}")
    return NORMALIZATIONS[name]


def normalize(name: str, text: str) -> str:
    """Apply the rule `name` to one transcript."""
    return normalization(name)(text)
