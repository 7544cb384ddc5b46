"""Commands instead of words: accuracy of intents and slots, what is answered though nobody asked, one against the other by confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxkit.text.intents import Answer


@dataclass(frozen=True)
class CommandResult:
    """Counts at one confidence.

    Attributes:
        confidence: below which nothing is answered.
        commands: utterances that mean something; answered: those of them with an answer; intents: with the right intent; exact: with all
            slots right too.
        slots: of all commands; right_slots: of those, filled right under the right intent.
        others: utterances that mean nothing; false: those of them with an answer. hours: of these, 0 where not known.
    """

    confidence: float
    commands: int
    answered: int
    intents: int
    exact: int
    slots: int
    right_slots: int
    others: int
    false: int
    hours: float = 0.0

    @property
    def missed(self) -> float:
        """Share of the commands that were not answered, or not with the right intent."""
        return 1 - self.intents / self.commands if self.commands else 0.0

    def row(self) -> dict[str, object]:
        """As a row of a table, in per cent."""
        def share(part: int, whole: int) -> str:
            return f"{100 * part / whole:.1f}" if whole else ""

        return {"confidence": f"{self.confidence:.2f}", "commands": self.commands, "intents": share(self.intents, self.commands),
                "slots": share(self.right_slots, self.slots), "exact": share(self.exact, self.commands),
                "missed": share(self.commands - self.intents, self.commands), "others": self.others, "false": self.false,
                "false/h": f"{self.false / self.hours:.1f}" if self.hours else ""}


def command_result(meant: Mapping[str, Answer | None], answers: Mapping[str, Answer | None], confidence: float,
                   durations: Mapping[str, float] | None = None) -> CommandResult:
    """Score answers by id.

    Args:
        meant: what each utterance means, None: nothing. answers: the best answers, however unsure; an id that is not there has none.
        confidence: below which an answer counts for none. durations: seconds.
    """
    given = {id: found if (found := answers.get(id)) and found.confidence >= confidence else None for id in meant}
    wanted = {id: one for id, one in meant.items() if one is not None}
    right = [id for id, one in wanted.items() if (found := given[id]) and found.intent == one.intent]
    hits = {id: sum(_slots(given[id]).get(name) == value for name, value in wanted[id].slots.items()) for id in right}
    others = [id for id, one in meant.items() if one is None]
    known = durations or {}
    return CommandResult(confidence, len(wanted), sum(given[id] is not None for id in wanted), len(right),
                         sum(_slots(given[id]) == wanted[id].slots for id in right), sum(len(one.slots) for one in wanted.values()),
                         sum(hits.values()), len(others), sum(given[id] is not None for id in others),
                         sum(known.get(id, 0.0) for id in others) / 3600)


def rejection_curve(meant: Mapping[str, Answer | None], answers: Mapping[str, Answer | None], durations: Mapping[str, float] | None = None,
                    confidences: Sequence[float] = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)) -> list[CommandResult]:
    """What is missed against what is answered to nobody, by the confidence that is asked for."""
    return [command_result(meant, answers, confidence, durations) for confidence in confidences]


def meaning(text: str, custom: Mapping[str, Any], matcher: Any) -> Answer | None:
    """What a reference means: its own `intent` and `slots` where it has both, else what its text says exactly.

    Args:
        matcher: a `voxkit.text.intents.Matcher`.

    Raises:
        ValueError: an intent that the pack does not have.
    """
    if custom.get("intent") and isinstance(custom.get("slots"), Mapping):
        kinds = {template.intent: template.kind for template in matcher.pack.templates}
        if custom["intent"] not in kinds:
            raise ValueError(f"intent {custom['intent']!r} of {text!r} is none of pack {matcher.pack.name}: is it another pack's?")
        return Answer(custom["intent"], kinds[custom["intent"]], {str(k): str(v) for k, v in custom["slots"].items()})
    found = matcher.best(text)
    return found if found is not None and found.confidence == 1.0 else None


def _slots(answer: Answer | None) -> dict[str, str]:
    return answer.slots if answer else {}
