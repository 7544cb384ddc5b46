"""Where tokens are: what an alignment or a search says, before it becomes words. No tensors: the runtime reads this too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass
class TokenSpan:
    """A token's place: frames start to end (exclusive; whole ones from CTC, within a frame from CIF), mean and highest log-probability."""

    token: int
    start: float
    end: float
    log_prob: float
    peak: float


@dataclass
class CtcAlignment:
    """spans of all tokens in order; score: log-probability of the path."""

    spans: list[TokenSpan]
    score: float


class Peaked(Protocol):
    """A search's hypothesis: tokens, the frame of each, their log-probabilities (may be empty)."""

    tokens: list[int]
    frames: list[int]
    token_log_probs: list[float]


def spans_from_peaks(hypothesis: Peaked) -> list[TokenSpan]:
    """CTC-peak times: what a search says without an alignment; every token lasts one frame."""
    scores = hypothesis.token_log_probs or [0.0] * len(hypothesis.tokens)
    return [TokenSpan(k, t, t + 1, p, p) for k, t, p in zip(hypothesis.tokens, hypothesis.frames, scores)]
