"""Commands of a pack in transcripts: what a test set's references mean, what a recognizer's texts were answered, and the curve of both."""

from __future__ import annotations

from dataclasses import dataclass

from voxkit.eval.intents import CommandResult, command_result, meaning, rejection_curve
from voxkit.eval.texts import Texts
from voxkit.hypothesis import Hypothesis
from voxkit.text.intents import Matcher
from voxkit.text.pack import load_pack


@dataclass(frozen=True)
class CommandScores:
    """result: at the confidence that was asked for; curve: at others."""

    result: CommandResult
    curve: list[CommandResult]


def command_scores(pack: str, references: Texts, hypotheses: Texts, confidence: float) -> CommandScores:
    """Score hypotheses by what they make a game do.

    Args:
        pack: file or name; confidence: below which nothing is answered.

    Raises:
        ValueError: no such pack, or no reference means anything of it.
    """
    matcher = Matcher(load_pack(pack), confidence)
    meant = {id: meaning(text, references.custom.get(id, {}), matcher) for id, text in references.texts.items()}
    if not any(meant.values()):
        raise ValueError(f"--commands {pack}: none of the {len(meant)} references is a command of this pack; is it the pack of that game?")
    answers = {id: matcher.best(Hypothesis(text, hypotheses.words.get(id, []))) for id, text in hypotheses.texts.items() if id in meant}
    durations = references.durations or hypotheses.durations
    return CommandScores(command_result(meant, answers, confidence, durations), rejection_curve(meant, answers, durations))
