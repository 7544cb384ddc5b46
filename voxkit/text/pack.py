"""Packs: what the players of a game say, as a YAML file that a game team can write.

    name: shooter
    terms:                                    # by class
      weapon:
        - {term: AK-47, spoken: [ak forty seven, ak], weight: 2, not: [okay]}
      place:
        - north gate                          # a term that is spoken as it is written
    templates:
      - {intent: enemy_spotted, kind: callout, say: ["enemy [at] {place}", "enemy {weapon} at {place:where}"]}
      - {intent: pick_lock, kind: command, say: [pick the lock], not: [try the lock]}

A term is what the game calls a thing; `spoken` is how people say it, in words and without figures. `{place}` stands for a term of a class
and fills the slot of that name, `{place:where}` another one; `[...]` may be left out. `not` names what is near to a term or a command and
is another thing.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from voxkit.files import read_text
from voxkit.text.normalize import normalize
from voxkit.text.vocabulary import Vocabulary

KINDS = ("command", "callout", "question")
BUILT_IN = Path(__file__).parent / "packs"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SLOT = re.compile(r"\{([a-z][a-z0-9_]*)(?::([a-z][a-z0-9_]*))?\}")
_PART = re.compile(r"\{[^{}]*\}|\[|\]|[^\s\[\]{}]+")
# under_scores, camelCase, letters and figures in one word, file.names: what a game's files call a thing and nobody says
_IDENTIFIER = re.compile(r"\w_\w|[a-z][A-Z]|[A-Za-z]\d|\d[A-Za-z]|\w[./\\]\w|^[A-Z]{2,}\.|#\w")


@dataclass(frozen=True)
class Term:
    """Attributes:
    name: what the game calls it, and what fills a slot.
    spoken: how people say it, at least one form.
    kind: its class.
    weight: by which its boost is multiplied; 1: that of all others.
    near: what sounds or is written like it and is something else.
    """

    name: str
    spoken: tuple[str, ...]
    kind: str
    weight: float = 1.0
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A place in a template that a term of class `kind` fills; `name` is what it is called in the answer."""

    kind: str
    name: str


Part = str | Slot  # of a pattern: a word, or a slot


@dataclass(frozen=True)
class Pattern:
    """One way to say something: its parts, each with whether it may be left out, and the group that it is left out with (0: none)."""

    text: str
    parts: tuple[tuple[Part, int], ...]

    def variants(self) -> list[tuple[Part, ...]]:
        """The parts with every choice of groups that are said."""
        groups = sorted({group for _, group in self.parts} - {0})
        out = []
        for chosen in range(1 << len(groups)):
            said = {0, *(group for bit, group in enumerate(groups) if chosen >> bit & 1)}
            out.append(tuple(part for part, group in self.parts if group in said))
        return [variant for variant in dict.fromkeys(out) if variant]


@dataclass(frozen=True)
class Template:
    """Attributes: intent: what it means; kind: of KINDS; patterns: ways to say it; near: what is near to it and means something else."""

    intent: str
    kind: str
    patterns: tuple[Pattern, ...]
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pack:
    """Attributes:
    name: of the pack; about: what it is for and where its words come from.
    terms, templates: see Term and Template.
    """

    name: str
    about: str = ""
    terms: tuple[Term, ...] = ()
    templates: tuple[Template, ...] = ()
    where: str = field(default="", compare=False)  # the file, for messages

    @cached_property
    def classes(self) -> Mapping[str, tuple[Term, ...]]:
        """Class → its terms."""
        out: dict[str, list[Term]] = {}
        for term in self.terms:
            out.setdefault(term.kind, []).append(term)
        return {kind: tuple(terms) for kind, terms in out.items()}

    def phrases(self) -> dict[str, float]:
        """What a search should favor → its weight: every spoken form, and every pattern without slots in its longest form."""
        out: dict[str, float] = {}
        for term in self.terms:
            for form in term.spoken:
                out[form] = max(term.weight, out.get(form, 0.0))
        for pattern in (pattern for template in self.templates for pattern in template.patterns):
            words = [part for part, _ in pattern.parts]
            if all(isinstance(word, str) for word in words):
                out.setdefault(" ".join(map(str, words)), 1.0)
        return out


def built_in() -> list[str]:
    """Names of the packs that voxkit brings."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def load_pack(path: str | os.PathLike) -> Pack:
    """A pack from its file, or one of `built_in()` by its name.

    Raises:
        ValueError: no such file, not a pack; all that is wrong with it, each with the term or template.
    """
    place = Path(path)
    if not place.is_file() and str(path) in built_in():
        place = BUILT_IN / f"{path}.yaml"
    if not place.is_file():
        raise ValueError(f"{path}: no such pack; give a YAML file, or one of {', '.join(built_in())}")
    try:
        content = yaml.safe_load(read_text(place))
    except yaml.YAMLError as error:
        raise ValueError(f"{place}: not YAML ({' '.join(str(error).split())})") from error
    return parse_pack(content, str(place))


def parse_pack(content: Any, where: str = "pack") -> Pack:
    """A pack from what its YAML holds.

    Raises:
        ValueError: as `load_pack`.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where}: not a pack; it holds name, terms and templates")
    problems = [f"{key!r} is none of name, about, terms, templates" for key in content
                if key not in ("name", "about", "terms", "templates")]
    terms = _terms(content.get("terms") or {}, problems)
    templates = _templates(content.get("templates") or [], {term.kind for term in terms}, problems)
    if not terms and not templates:
        problems.append("there is neither a term nor a template in it")
    if problems:
        raise ValueError(f"{where}: " + "\n  ".join(problems))
    return Pack(str(content.get("name") or Path(where).stem), " ".join(str(content.get("about") or "").split()), tuple(terms),
                tuple(templates), where)


def _terms(content: Any, problems: list[str]) -> list[Term]:
    if not isinstance(content, dict):
        problems.append("terms: a mapping of class to list of terms is needed")
        return []
    out = []
    for kind, entries in content.items():
        if not _NAME.fullmatch(str(kind)) or not isinstance(entries, list):
            problems.append(f"terms: {kind!r} should be a class in small letters with a list of terms")
            continue
        for entry in entries:
            entry = {"term": entry, "spoken": [entry]} if isinstance(entry, str) else entry
            if (term := _term(kind, entry, problems)) is not None:
                out.append(term)
    twice = [pair for pair, count in Counter((term.kind, term.name) for term in out).items() if count > 1]
    problems += [f"terms: {name!r} is in class {kind} twice" for kind, name in twice]
    return out


def _term(kind: str, entry: Any, problems: list[str]) -> Term | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("term"), str):
        problems.append(f"terms: {kind}: {entry!r} has no 'term' in writing")
        return None
    name = entry["term"]
    if unknown := sorted(set(map(str, entry)) - {"term", "spoken", "weight", "not"}):
        problems.append(f"term {name!r}: {unknown[0]!r} is none of term, spoken, weight, not")
    spoken, near = _strings(entry.get("spoken")), _strings(entry.get("not"))
    if not spoken:
        problems.append(f"term {name!r}: no spoken form; write how people say it, e.g. spoken: [{_suggested(name)}]")
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight <= 0:
        problems.append(f"term {name!r}: weight {weight!r} is no number above 0")
        weight = 1.0
    return Term(name, spoken, kind, float(weight), near)


def _templates(content: Any, classes: set[str], problems: list[str]) -> list[Template]:
    if not isinstance(content, list):
        problems.append("templates: a list is needed")
        return []
    out = []
    for entry in content:
        if not isinstance(entry, dict) or not _NAME.fullmatch(str(entry.get("intent"))):
            problems.append(f"templates: {entry!r} has no 'intent' in small letters")
            continue
        intent, kind = entry["intent"], entry.get("kind", "command")
        if unknown := sorted(set(map(str, entry)) - {"intent", "kind", "say", "not"}):
            problems.append(f"template {intent}: {unknown[0]!r} is none of intent, kind, say, not")
        if kind not in KINDS:
            problems.append(f"template {intent}: kind {kind!r} is none of {', '.join(KINDS)}")
        say = _strings(entry.get("say"))
        if not say:
            problems.append(f"template {intent}: nothing to say; write say: [...]")
        patterns = []
        for text in say:
            try:
                patterns.append(parse_pattern(text, classes))
            except ValueError as error:
                problems.append(f"template {intent}: {error}")
        out.append(Template(intent, kind, tuple(patterns), _strings(entry.get("not"))))
    return out


def parse_pattern(text: str, classes: set[str]) -> Pattern:
    """What `say` writes as a pattern.

    Raises:
        ValueError: brackets that do not close or lie in one another, a class that there is not, nothing that is always said.
    """
    parts: list[tuple[Part, int]] = []
    group = groups = 0
    for token in _PART.findall(text):
        if token == "[":
            if group:
                raise ValueError(f"{text!r}: brackets within brackets")
            groups += 1
            group = groups
        elif token == "]":
            if not group:
                raise ValueError(f"{text!r}: ']' closes nothing")
            group = 0
        elif token.startswith("{"):
            slot = _SLOT.fullmatch(token)
            if not slot or slot[1] not in classes:
                raise ValueError(f"{text!r}: {token} names no class of terms; there are {', '.join(sorted(classes)) or 'none'}")
            parts.append((Slot(slot[1], slot[2] or slot[1]), group))
        else:
            parts.append((token, group))
    if group or text.count("{") != len(_SLOT.findall(text)) or text.count("}") != text.count("{"):
        raise ValueError(f"{text!r}: a bracket that does not close")
    if all(own for _, own in parts):
        raise ValueError(f"{text!r}: all of it may be left out")
    names = Counter(part.name for part, _ in parts if isinstance(part, Slot))
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{text!r}: slot {twice[0]} is there twice; name one of them, e.g. {{{twice[0]}:other}}")
    return Pattern(text, tuple(parts))


def check_spelling(pack: Pack, vocabulary: Vocabulary | None = None, rule: str = "none") -> None:
    """Refuse what a search could not be given.

    Args:
        vocabulary: of the model; None: letters are all that is asked for. rule: text rule of its transcripts.

    Raises:
        ValueError: phrases without a letter, or that the vocabulary cannot spell; it names them.
    """
    words = {word for template in pack.templates for pattern in template.patterns for word, _ in pattern.parts if isinstance(word, str)}
    bad = []
    for phrase in [*pack.phrases(), *sorted(words)]:
        said = normalize(rule, phrase)
        if not any(c.isalpha() for c in said):
            bad.append(f"{phrase!r} (no letter in it)")
        elif vocabulary is not None:
            ids = vocabulary.encode(said)
            if not ids or vocabulary.unk is not None and vocabulary.unk in ids:
                bad.append(f"{phrase!r} (as {said!r})")
    if bad:
        raise ValueError(f"{pack.where or pack.name}: {len(bad)} phrases cannot be tokenized: {'; '.join(bad[:10])}"
                         + ("; ..." if len(bad) > 10 else "") + ". Write them as they are spoken, in the letters of the model")


def warnings(pack: Pack) -> list[str]:
    """What is suspicious and no error: raw identifiers and figures as spoken forms, one form of two terms of a class."""
    found = []
    for term in pack.terms:
        for form in term.spoken:
            if is_identifier(form):
                found.append(f"term {term.name!r}: {form!r} looks like an identifier out of the game's files, and nobody says it; write "
                             f"how it is spoken, e.g. {_suggested(form)!r}")
            elif any(c.isdigit() for c in form):
                found.append(f"term {term.name!r}: {form!r} has figures; spell them as they are spoken")
    for kind, terms in pack.classes.items():
        forms = Counter(normalize("librispeech", form) for term in terms for form in dict.fromkeys(term.spoken))
        found += [f"class {kind}: {form!r} is spoken for {count} terms, and the first is taken"
                  for form, count in forms.items() if count > 1]
    return found


def is_identifier(text: str) -> bool:
    """Whether a text looks like a name out of source code or data files."""
    return bool(_IDENTIFIER.search(text))


def _suggested(identifier: str) -> str:
    """How an identifier may be said."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", identifier)
    return " ".join(re.sub(r"[^\w']|_", " ", apart).lower().split())


def _strings(value: Any) -> tuple[str, ...]:
    found: Sequence[Any] = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(" ".join(str(one).split()) for one in found if str(one).strip())
