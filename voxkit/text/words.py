"""Where words begin in running text: behind blanks, and in scripts that write none (Chinese, Japanese, Thai, ...) at every character.

A character is what a reader takes for one: a letter with its combining marks. Punctuation stays with the word that it is written at.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Thai, Lao, Tibetan, Burmese, Khmer, Tai Tham; CJK radicals, iteration marks, kana, Han and its extensions
_UNSPACED = ((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x2E80, 0x2FDF),
             (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),
             (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF))
_JOINERS = "\u200c\u200d"
_BEHIND = "\u0e30\u0e33\u0eb0\u0eb3\uff9e\uff9f"  # vowels and voicing marks that are no combining marks, and never stand alone


def begins_word(before: str, after: str) -> bool:
    """Whether a word begins between two neighboring characters."""
    if after.isspace() or before.isspace():
        return before.isspace() or after.isspace()
    if not (_unspaced(before) or _unspaced(after)):
        return False
    kind = unicodedata.category(after)
    if kind[0] == "M" or after in _JOINERS or after in _BEHIND or before in _JOINERS:
        return False
    if kind[0] == "P" and kind not in ("Ps", "Pi"):
        return False
    return unicodedata.category(before) not in ("Ps", "Pi")


def words_of(units: Iterable[tuple[int, int, str]]) -> list[tuple[str, range]]:
    """Words of a running text that comes in units.

    Args:
        units: (first token, token after the last, text) in order; the text of a unit is not cut.

    Returns:
        (word, range of its tokens), without those that hold nothing but blanks.
    """
    groups: list[tuple[str, int, int]] = []
    for start, stop, text in units:
        if not text:
            continue
        if not groups or begins_word(groups[-1][0][-1], text[0]) and (text[0].isspace() or groups[-1][0].strip()):
            groups.append((text, start, stop))
        else:
            before, first, _ = groups[-1]
            groups[-1] = (before + text, first, stop)
    return [(" ".join(text.split()), range(start, stop)) for text, start, stop in groups if text.strip()]


def join(words: Iterable[str]) -> str:
    """Words as running text: a blank between them, but none between two characters of scripts that write none."""
    text = ""
    for word in words:
        text += word if not text or (word and _unspaced(text[-1]) and _unspaced(word[0])) else f" {word}"
    return text


def _unspaced(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in _UNSPACED)
