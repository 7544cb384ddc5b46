"""What a CTC search returns."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CtcHypothesis:
    """Tokens with the frames they were found at.

    Attributes:
        tokens: ids, blanks and repetitions taken out.
        score: what the search ranks by: CTC log-probability plus what scorers added (natural log).
        frames: per token, the frame where it begins (greedy) or peaks (beam).
        token_log_probs: per token, its log-probability at its peak.
        ctc_score: the CTC part of `score`.
    """

    tokens: list[int]
    score: float
    frames: list[int] = field(default_factory=list)
    token_log_probs: list[float] = field(default_factory=list)
    ctc_score: float = 0.0
