"""Which searches take a language model, phrases or a second language model, and what is said where one does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxkit.infer.recognizer import SearchOptions

# attribute of SearchOptions → what it is, with the option that gives it
FUSED = {"lm": "language model (--lm)", "context": "phrases (--phrases)", "rescore_lm": "second language model (--rescore-lm)"}
ALONE = "it decides token by token, without what stands before, and finds one hypothesis"

# method → (what it does not take, why); one that is not here takes everything
Refusals = Mapping[str, tuple[tuple[str, ...], str]]


def refused(options: SearchOptions, refusals: Refusals) -> list[str]:
    """Which of FUSED the options hold and their method does not take."""
    names, _ = refusals.get(options.method, ((), ""))
    return [name for name in FUSED if name in names and getattr(options, name) is not None]


def refusal(options: SearchOptions, refusals: Refusals, methods: Callable[[], list[str]]) -> str | None:
    """Why the method of the options cannot take what they hold, and which of `methods()` can; None where it can."""
    held = [name for name in FUSED if getattr(options, name) is not None]
    found = [FUSED[name] for name in refused(options, refusals)]
    if not found:
        return None
    _, why = refusals[options.method]
    able = [m for m in methods() if not set(held) & set(refusals.get(m, ((), ""))[0])]
    return f"method {options.method} takes no {' and no '.join(found)}: {why}; use {', '.join(able)}"
