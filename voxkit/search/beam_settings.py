"""What the engines of CTC prefix beam search share: how wide a beam is, and what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BeamSettings:
    """Attributes:
    beam: hypotheses kept per utterance (W).
    candidates: tokens looked at in a frame (K).
    blank: its id.
    blank_skip: frames where blank has at least this probability count as blank and cost nothing; None: none.
    min_log_prob: tokens below this are no candidates in a frame (natural log); None: all are.
    prune: hypotheses this much worse than the best are dropped (nats); None: none are.
    times: find each token's peak, which takes the posteriors of all frames.
    """

    beam: int
    candidates: int
    blank: int = 0
    blank_skip: float | None = 0.99
    min_log_prob: float | None = -5.0
    prune: float | None = 10.0
    times: bool = True

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ValueError(f"beam is {self.beam}: it must be at least 1")
        if self.blank_skip is not None and not 0.5 < self.blank_skip <= 1:
            raise ValueError(f"blank_skip is {self.blank_skip}: a probability over 0.5, or None for no skipping")
