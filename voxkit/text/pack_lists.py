"""Into packs and out of them: plain lists and localization tables become packs; packs become prompts, phrase lists and hotword lists."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from voxkit.files import read_text
from voxkit.text.normalize import normalize
from voxkit.text.pack import Pack, Template, Term, is_identifier, parse_pattern
from voxkit.text.phrases import read_phrases

TEXT_COLUMNS = ("english", "en", "en-us", "en_us", "text", "source", "value", "translation")
# what localized strings hold besides words: tags, placeholders, formats, escapes
_MARKUP = re.compile(r"<[^<>]*>|\{[^{}]*\}|%\d*\$?[-+ 0]*[\d.]*[a-zA-Z]|\\[nrt]|\$\w+\$?|\[/?[a-z]+(?:=[^\]]*)?\]")
_LITTLE = {"of", "the", "and", "a", "an"}


def read_list(path: str | os.PathLike, kind: str) -> list[Term]:
    """Terms of a plain list: a phrase a line as it is spoken, maybe with a weight behind a tab.

    Raises:
        ValueError: as `read_phrases`; a weight that is not above 0.
    """
    found = read_phrases(path)
    if bad := next((phrase for phrase, weight in found.items() if weight is not None and weight <= 0), None):
        raise ValueError(f"{path}: the weight of {bad!r} is not above 0")
    return [Term(phrase, (phrase,), kind, 1.0 if weight is None else weight) for phrase, weight in found.items()]


def read_localization(path: str | os.PathLike, kind: str, *, column: str = "", longest: int = 4) -> tuple[list[Term], int]:
    """Terms of a localization table (CSV, or tabs or semicolons): the strings that may be names, in small letters as they are spoken.

    Args:
        column: that holds the strings; "": the first of TEXT_COLUMNS, whatever their case.
        longest: words; longer strings are sentences of dialogs and menus.

    Returns:
        terms, each string once, and how many strings were no names (too long, empty without their markup, with figures).

    Raises:
        ValueError: no such file, no header, no such column, nothing that may be a name.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; give a localization table with a header, as CSV")
    text = read_text(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    columns = [name for name in (rows[0] if rows else {}) if name]
    wanted = [name for name in columns if name.strip().lower() == column.lower()] if column else [
        name for known in TEXT_COLUMNS for name in columns if name.strip().lower() == known]
    if not wanted:
        raise ValueError(f"{path}: no column {column or ' or '.join(TEXT_COLUMNS)!r} in its header; there are "
                         f"{', '.join(columns) or 'none'} (--column names it)")
    terms: dict[str, Term] = {}
    left_out = 0
    for row in rows:
        written = " ".join(_MARKUP.sub(" ", row.get(wanted[0]) or "").split())
        spoken = normalize("librispeech", written).lower()
        if not spoken or len(spoken.split()) > longest or any(c.isdigit() for c in spoken):
            left_out += 1
            continue
        terms.setdefault(spoken, Term(written.strip(" .,:;!?"), (spoken,), kind))
    if not terms:
        raise ValueError(f"{path}: column {wanted[0]!r} has no string of 1 to {longest} words without figures: there is no name in it")
    return list(terms.values()), left_out


def pack_of(name: str, terms: Iterable[Term], about: str = "") -> Pack:
    """A pack of terms alone, with the pattern that says one of them: templates are for the game team to write."""
    terms = tuple(terms)
    classes = sorted({term.kind for term in terms})
    templates = tuple(Template(f"say_{kind}", "callout", (parse_pattern(f"{{{kind}}}", {kind}),)) for kind in classes)
    return Pack(name, about, terms, templates)


def to_yaml(pack: Pack) -> str:
    """A pack as its YAML."""
    terms: dict[str, list[object]] = {}
    for term in pack.terms:
        plain = term.spoken == (term.name,) and term.weight == 1 and not term.near
        entry: dict[str, object] = {"term": term.name, "spoken": list(term.spoken)}
        if term.weight != 1:
            entry["weight"] = term.weight
        if term.near:
            entry["not"] = list(term.near)
        terms.setdefault(term.kind, []).append(term.name if plain else entry)
    templates = [{"intent": t.intent, "kind": t.kind, "say": [p.text for p in t.patterns], **({"not": list(t.near)} if t.near else {})}
                 for t in pack.templates]
    content = {"name": pack.name, **({"about": pack.about} if pack.about else {}), "terms": terms, "templates": templates}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)


def prompt(pack: Pack, characters: int = 600) -> str:
    """The pack as the prompt of a model that takes one (Whisper, a model behind an endpoint): its phrases, the heaviest first, as many as
    fit. Identifiers stay out: they brought nothing where they were tried."""
    out = ""
    for phrase in _by_weight(pack):
        longer = f"{out}, {phrase}" if out else phrase
        if len(longer) + 1 > characters:
            break
        out = longer if not is_identifier(phrase) else out
    return out + "." if out else ""


def phrase_lines(pack: Pack, rule: str = "none", boost: float = 1.5) -> list[str]:
    """Lines of a file for `--phrases`: PHRASE, and behind a tab its boost in nats per token where its weight is not 1.

    Args:
        rule: text rule of the model's transcripts. boost: of a weight of 1.
    """
    return [phrase if weight == 1 else f"{phrase}\t{boost * weight:g}" for phrase, weight in _spelled(pack, rule).items()]


def hotword_lines(pack: Pack, rule: str = "librispeech", score: float = 1.5) -> list[str]:
    """Lines of a hotwords file of sherpa-onnx: PHRASE, and ` :SCORE` where its weight is not 1.

    Args:
        rule: as `phrase_lines`; score: of a weight of 1, as sherpa-onnx has it for all phrases.
    """
    return [phrase if weight == 1 else f"{phrase} :{score * weight:g}" for phrase, weight in _spelled(pack, rule).items()]


def _spelled(pack: Pack, rule: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for phrase, weight in pack.phrases().items():
        said = normalize(rule, phrase)
        out[said] = max(weight, out.get(said, 0.0))
    return out


def _by_weight(pack: Pack) -> list[str]:
    """Phrases, the heaviest first; among equals those of several words, which are more telling, and the pack's order."""
    phrases = list(pack.phrases().items())
    phrases.sort(key=lambda item: (-item[1], -len([w for w in item[0].split() if w not in _LITTLE])))
    return [phrase for phrase, _ in phrases]
