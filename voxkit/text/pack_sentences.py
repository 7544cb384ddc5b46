"""The sentences of a pack: every way in which its templates can be said, drawn without repetition; and what keeps them out of test sets."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from voxkit.text.normalize import normalize
from voxkit.text.pack import Pack, Part, Slot

PARTS = {"train": (0, 80), "dev": (80, 90), "test": (90, 100)}  # per cent


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it means: slot → term."""

    text: str
    intent: str
    kind: str
    slots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Space:
    """All sentences of one variant of a pattern: a number below `size` says one of them."""

    intent: str
    kind: str
    parts: tuple[Part, ...]
    choices: tuple[tuple[tuple[str, str], ...], ...]  # of each slot: (spoken form, term)

    @property
    def size(self) -> int:
        return math.prod(len(forms) for forms in self.choices)

    def sentence(self, number: int) -> Sentence:
        words, slots, left = [], {}, iter(self.choices)
        for part in self.parts:
            if isinstance(part, Slot):
                forms = next(left)
                number, at = divmod(number, len(forms))
                words.append(forms[at][0])
                slots[part.name] = forms[at][1]
            else:
                words.append(part)
        return Sentence(" ".join(words), self.intent, self.kind, slots)


def sentences(pack: Pack, count: int = 0, seed: int = 0, part: str = "") -> list[Sentence]:
    """Distinct sentences of a pack, in an order that the seed decides.

    Args:
        count: how many at most; every pattern gives equally many while it lasts. 0: all of them, which may be millions.
        part: "train", "dev" or "test": those that belong to it by their words alone, so that no two parts share one; "": of all.

    Raises:
        ValueError: a part that is none, a pack without templates, or one whose part is empty.
    """
    if part and part not in PARTS:
        raise ValueError(f"part {part!r} is none of {', '.join(PARTS)}")
    rng = random.Random(f"{seed}/{pack.name}")
    waiting = [(space, _numbers(space.size, rng)) for space in _spaces(pack)]
    out: dict[str, Sentence] = {}
    while waiting and (not count or len(out) < count):
        still = []
        for space, numbers in waiting:
            if count and len(out) >= count:
                break
            for number in numbers:  # to the next that is new and of this part
                found = space.sentence(number)
                key = spoken_key(found.text)
                if key not in out and (not part or part_of(found.text) == part):
                    out[key] = found
                    still.append((space, numbers))
                    break
        waiting = still
    if not out:
        raise ValueError(f"{pack.where or pack.name}: it has no sentence{f' in part {part}' if part else ''}: add templates to it")
    found_all = list(out.values())
    rng.shuffle(found_all)
    return found_all


def size(pack: Pack) -> int:
    """How many ways of saying something a pack has; two that give the same words count twice."""
    return sum(space.size for space in _spaces(pack))


def part_of(text: str) -> str:
    """The part that a sentence belongs to, by its words alone."""
    draw = int.from_bytes(hashlib.sha256(spoken_key(text).encode()).digest()[:4], "big") % 100
    return next(part for part, (low, high) in PARTS.items() if low <= draw < high)


def spoken_key(text: str) -> str:
    """What two texts share that are said alike: words without case and punctuation."""
    plain = text.isascii() and text.replace(" ", "").isalpha()  # where the rule is no more than this, and a hundred times faster
    return " ".join(text.upper().split()) if plain else normalize("librispeech", text)


def overlap(training: Iterable[str], held_out: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Sentences of training that a test set holds too, however they are written → the test sets; in order, each once."""
    sets = {name: {spoken_key(text) for text in texts} for name, texts in held_out.items()}
    out: dict[str, list[str]] = {}
    for text in training:
        key = spoken_key(text)
        if key and text not in out and (places := [name for name, texts in sets.items() if key in texts]):
            out[text] = places
    return out


def refuse_overlap(training: Iterable[str], held_out: Mapping[str, Iterable[str]]) -> None:
    """
    Raises:
        ValueError: a sentence of training is in a test set; it says which, and where.
    """
    found = overlap(training, held_out)
    if found:
        shown = "; ".join(f"{text!r} ({', '.join(places)})" for text, places in list(found.items())[:10])
        more = "; ..." if len(found) > 10 else ""
        raise ValueError(f"{len(found)} sentences of training are in a test set: {shown}{more}. What was trained on cannot be tested with: "
                         "leave them out of training (--leave-out)")


def _spaces(pack: Pack) -> list[_Space]:
    forms = {kind: tuple((form, term.name) for term in terms for form in term.spoken) for kind, terms in pack.classes.items()}
    return [_Space(template.intent, template.kind, parts, tuple(forms[part.kind] for part in parts if isinstance(part, Slot)))
            for template in pack.templates for pattern in template.patterns for parts in pattern.variants()]


def _numbers(size: int, rng: random.Random) -> Iterator[int]:
    """0 ... size - 1 in a random order, without a list of them where there are many: a walk with a step that has no divisor in common."""
    start, step = rng.randrange(size), rng.randrange(size) or 1
    while math.gcd(step, size) > 1:
        step += 1
    return ((start + i * step) % size for i in range(size))
