"""What players say: a small grammar, every sentence of which belongs to exactly one of training, dev and test."""

from __future__ import annotations

import hashlib
import itertools

SLOTS = {
    "aid": "HEAL COVER FOLLOW PROTECT",
    "whom": "ME US HIM",
    "hurry": "NOW PLEASE AGAIN",
    "order": "PUSH HOLD DEFEND ATTACK LEAVE WATCH",
    "side": "LEFT RIGHT TOP BOTTOM MIDDLE",
    "place": "LANE TOWER GATE BRIDGE CAMP",
    "gather": "WARD MEET REGROUP WAIT HIDE",
    "near": "AT BEHIND",
    "spot": "DRAGON RIVER BASE FOREST CASTLE",
    "seen": "MISSING SPOTTED DOWN",
    "number": "ONE TWO THREE FOUR FIVE SIX SEVEN",
    "foe": "SNIPER WIZARD ARCHER GIANT",
    "supply": "MANA AMMO BACKUP GOLD",
    "handle": "USE DROP BUY",
    "item": "SHIELD HAMMER POTION SWORD GRENADE",
    "retreat": "RETREAT RUN GO",
    "call": "BRAVO DELTA ECHO TANGO",
    "unit": "TANK ROCKET FACTORY",
}

TEMPLATES = {
    "game": (
        "{aid} {whom} {hurry?}",
        "{aid} {whom} {near} THE {spot}",
        "{order} THE {side} {place} {hurry?}",
        "{gather} {near} {spot}",
        "{gather} {near} THE {side} {place}",
        "ENEMY {foe?} {seen} {side}",
        "{number} ENEMIES {near} THE {spot}",
        "I NEED {supply} {hurry?}",
        "I NEED {supply} {near} THE {spot}",
        "{handle} YOUR {item} {hurry?}",
        "{retreat} BACK TO THE {spot}",
        "{foe} ON THE {side} {place}",
        "{retreat} {side} {hurry?}",
    ),
    "domain": (  # the radio of a squadron: other words, and known words in another order
        "{call} TEAM MOVE TO SECTOR {number}",
        "COMMANDER THE {unit} IS UNDER ATTACK",
        "{call} {number} REQUEST {supply} OVER",
        "TARGET {seen} IN SECTOR {number} OVER",
        "COPY {call} {order} THE {unit}",
        "{unit} {seen} {near} SECTOR {number}",
        "{call} {call} {retreat} TO {spot}",
    ),
}

_SHARES = (("train", 70), ("dev", 80), ("test", 100))  # upper bounds, per cent


def sentences(domain: str, part: str, seed: int) -> list[list[str]]:
    """The sentences of one part: for each template those that belong to "train", "dev" or "test".

    A sentence's part follows from its words and the seed alone, so that no two parts share one, across domains too.
    """
    return [kept for template in TEMPLATES[domain] if (kept := [s for s in expand(template) if part_of(s, seed) == part])]


def expand(template: str) -> list[str]:
    """Every sentence of a template; `{slot?}` may be left out."""
    choices = []
    for word in template.split():
        name = word.strip("{}?")
        options = SLOTS[name].split() if word.startswith("{") else [word]
        choices.append(options + [""] if word.endswith("?}") else options)
    return [" ".join(filter(None, words)) for words in itertools.product(*choices)]


def part_of(sentence: str, seed: int) -> str:
    """The part that a sentence belongs to: 70 % train, 10 % dev, 20 % test."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}|{sentence}".encode()).digest()[:4], "big") % 100
    return next(part for part, bound in _SHARES if draw < bound)


def vocabulary() -> set[str]:
    """Every word of the grammar."""
    return {word for templates in TEMPLATES.values() for t in templates for s in expand(t) for word in s.split()}
