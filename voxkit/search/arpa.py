"""ARPA files of n-gram models, as SRILM, KenLM and we write them; `.gz` too.

    \\data\\
    ngram 1=3
    ngram 2=2

    \\1-grams:
    log10 probability <tab> words <tab> log10 back-off weight, which may be missing

    \\end\\

What a file says is checked against itself: a model that lost lines, or whose numbers are none, would only decode worse.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator
from pathlib import Path

from voxkit.files import read_lines, writing

Ngrams = list[dict[tuple[str, ...], tuple[float, float]]]  # per order 1, 2, ...: n-gram → (log10 probability, log10 back-off weight)

_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)", re.ASCII)
_SECTION = re.compile(r"\\(\d+)-grams:", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BLANKS = re.compile("[ \t]+")
_ROUNDING = 1e-6  # by which a probability of 1 may be above it


def read_arpa(path: str | Path) -> Ngrams:
    """Read a file.

    Raises:
        ValueError: no such file, or not ARPA; a number that is none or not finite, a probability above 1, an n-gram twice, sections out of
            order, other counts than the head says, no end; with the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `voxkit lm train` makes one")
    lines = ((number, line.strip(" \t")) for number, line in enumerate(read_lines(path), 1))
    counts = _head(lines, path)
    ngrams: Ngrams = []
    for number, line in lines:
        where = f"{path}, line {number}"
        if line == "\\end\\":
            _check_counts(counts, ngrams, path)
            return ngrams
        if section := _SECTION.fullmatch(line):
            if int(section[1]) != len(ngrams) + 1 or len(ngrams) == len(counts):
                raise ValueError(f"{where}: {line} where \\{len(ngrams) + 1}-grams: of {len(counts)} sections should follow")
            ngrams.append({})
        elif line:
            if not ngrams:
                raise ValueError(f"{where}: neither a count nor a section: {line[:80]!r}")
            words, numbers = _entry(line, len(ngrams), where)
            if words in ngrams[-1]:
                raise ValueError(f"{where}: {' '.join(words)!r} has been there before; an n-gram has one probability")
            ngrams[-1][words] = numbers
    raise ValueError(f"{path}: it ends without \\end\\, so that n-grams are missing: the file is cut off; make or copy it anew")


def write_arpa(path: str | Path, ngrams: Ngrams) -> None:
    """Write a file, atomically.

    Raises:
        ValueError: a word that cannot stand in one, since it is empty or holds a blank or a line end.
    """
    path = Path(path)
    for word in {word for (word,) in ngrams[0]}:
        if not word or re.search("[ \t\n\r]", word):
            raise ValueError(f"{path}: {word!r} cannot be a word of an ARPA file, which parts words by blanks")
    with writing(path, "wb") as file:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
                packed.writelines(line.encode() for line in _lines(ngrams))
        else:
            file.writelines(line.encode() for line in _lines(ngrams))


def _lines(ngrams: Ngrams) -> Iterator[str]:
    yield "\\data\\\n"
    yield from (f"ngram {n}={len(entries)}\n" for n, entries in enumerate(ngrams, 1))
    for n, entries in enumerate(ngrams, 1):
        yield f"\n\\{n}-grams:\n"
        for words, (p, backoff) in entries.items():
            yield f"{p:.7g}\t{' '.join(words)}" + (f"\t{backoff:.7g}\n" if n < len(ngrams) else "\n")
    yield "\n\\end\\\n"


def _head(lines: Iterator[tuple[int, str]], path: Path) -> list[int]:
    """Counts of the orders 1, 2, ...; the lines up to them are consumed."""
    for _, line in lines:
        if line == "\\data\\":
            break
    else:
        raise ValueError(f"{path}: no \\data\\ found; is it an ARPA file?")
    counts: list[int] = []
    for number, line in lines:
        if found := _COUNT.fullmatch(line):
            if int(found[1]) != len(counts) + 1:
                raise ValueError(f"{path}, line {number}: {line!r} where the count of {len(counts) + 1}-grams should follow")
            counts.append(int(found[2]))
        elif counts and not line:
            return counts
        elif line:
            raise ValueError(f"{path}, line {number}: a line `ngram ORDER=COUNT` was expected, an empty one behind the last: {line[:80]!r}")
    raise ValueError(f"{path}: no counts of n-grams below \\data\\; is it an ARPA file, and whole?")


def _entry(line: str, order: int, where: str) -> tuple[tuple[str, ...], tuple[float, float]]:
    fields = _BLANKS.split(line)
    if len(fields) not in (order + 1, order + 2):
        raise ValueError(f"{where}: an entry of {order} words was expected: {line[:80]!r}")
    p, backoff = _number(fields[0], where), _number(fields[order + 1], where) if len(fields) > order + 1 else 0.0
    if p > _ROUNDING:
        raise ValueError(f"{where}: log10 probability {fields[0]} is above 0: did it lose its sign, or is it no logarithm?")
    return tuple(fields[1:order + 1]), (p, backoff)


def _number(text: str, where: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is no finite number; a probability of zero is written -99")
    return value


def _check_counts(counts: list[int], ngrams: Ngrams, path: Path) -> None:
    if len(ngrams) < len(counts):
        raise ValueError(f"{path}: it has {len(ngrams)} sections of n-grams, and its head says {len(counts)}")
    for n, (count, entries) in enumerate(zip(counts, ngrams), 1):
        if count != len(entries):
            raise ValueError(f"{path}: {len(entries)} {n}-grams, and its head says {count}: lines were lost or added; make or copy it anew")
    if not ngrams[0]:
        raise ValueError(f"{path}: no n-grams in it")
