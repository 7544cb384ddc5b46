"""When a decoder says what nobody said: what the audio has to say about it, and what the text itself shows.

A language model in a loop is sure of every token, so that its own probabilities are no stop. Two sides are looked at:

    acoustic   how many tokens CTC hears; which of the words some frame belongs to (alignment)
    text       the same words again and again; no end mark within the length; tokens that could be anything
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

REASONS = ("silence", "loop", "length", "coverage", "entropy")


@dataclass(frozen=True)
class StopRule:
    """What is taken for a hallucination.

    Attributes:
        silence: CTC hears fewer tokens than this: nobody speaks, and nothing is said.
        length_factor, length_spare: a text may have so many times the tokens that CTC hears, and so many more.
        repeats: the same tokens so many times in a row are a loop, once there are more of them than CTC hears.
        longest: tokens of a loop's turn at most.
        coverage: least share of the words that some frame of the audio belongs to (alignment).
        entropy: greatest mean entropy of the tokens, nats.
    """

    silence: float = 0.5
    length_factor: float = 1.5
    length_spare: int = 5
    repeats: int = 3
    longest: int = 24
    coverage: float = 0.3
    entropy: float = 3.0

    def __post_init__(self) -> None:
        if not (self.silence >= 0 and self.length_factor > 0 and self.length_spare >= 0 and self.repeats >= 2 and self.longest >= 1
                and 0 <= self.coverage <= 1 and self.entropy > 0):
            raise ValueError(f"{self}: silence and length_spare are not negative, length_factor and entropy above 0, repeats at least 2, "
                             "longest at least 1, coverage a share")

    def most_tokens(self, expected: float) -> int:
        """How many tokens a text may have where CTC hears `expected`; none where nobody speaks."""
        return 0 if expected < self.silence else math.ceil(self.length_factor * expected) + self.length_spare

    def loop(self, tokens: Sequence[int], expected: float = 0.0) -> int | None:
        """Where the second turn of a loop begins that `tokens` end with; None where there is none, or no more than CTC hears."""
        if len(tokens) <= expected:
            return None
        for size in range(1, min(self.longest, len(tokens) // self.repeats) + 1):
            turns = self.repeats if size > 1 else self.repeats + 1  # "no no no" is said
            if len(tokens) < turns * size:
                continue
            turn = list(tokens[-size:])
            if all(list(tokens[len(tokens) - (n + 1) * size:len(tokens) - n * size]) == turn for n in range(1, turns)):
                first = len(tokens) - turns * size
                while first >= 1 and tokens[first - 1] == tokens[first - 1 + size]:  # the loop may have begun before
                    first -= 1
                return first + size
        return None

    def judge(self, ended: str, expected: float, entropy: float | None = None, covered: float | None = None) -> str:
        """Why a text is not to be trusted, one of REASONS; empty where it is.

        Args:
            ended: how generation ended: "end", "length" or "loop".
            expected: tokens that CTC hears.
            entropy: mean over the tokens, nats; covered: share of the words that some frame belongs to; None: not known.
        """
        if expected < self.silence:
            return "silence"
        if ended != "end":
            return ended
        if covered is not None and covered < self.coverage:
            return "coverage"
        return "entropy" if entropy is not None and entropy > self.entropy else ""


DOUBTED = -0.4  # nats; of a text whose tokens are likelier in the mean nobody asks whether it was said


def nobody_speaks(mean_log_prob: float, silence: float) -> bool:
    """Whether a pretrained decoder that can say so has heard no speech (Radford et al. 2022, section 4.5): it finds silence likely, above
    0.6, and its own text unlikely, below -1 nats a token. Whisper is sure of the "you" that it says where there is no sound at all, and
    surer of the silence: above 0.9 that alone decides (speech was never found above 0.5).

    Args:
        mean_log_prob: of the tokens, by one more than there are (the end); silence: probability that nobody speaks.
    """
    return mean_log_prob < DOUBTED and (silence > 0.9 or silence > 0.6 and mean_log_prob < -1.0)


def share_heard(likeliest: Sequence[float]) -> float:
    """Share of words that some frame belongs to, from the probability of each word's likeliest frame; 1 of no words."""
    return sum(p >= 0.5 for p in likeliest) / len(likeliest) if likeliest else 1.0
