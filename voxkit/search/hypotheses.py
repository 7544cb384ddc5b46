"""What searches return."""

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


@dataclass
class AttentionHypothesis:
    """What attention beam search and rescoring return.

    Attributes:
        tokens: ids without bos and eos.
        score: what the search ranks by (natural log, weights and length normalization included).
        token_log_probs: per token, its log-probability under the decoder; or, from rescoring, under CTC.
        frames: per token, the frame it peaks at under CTC; only from rescoring.
        parts: log-probabilities that went into it, unweighted: "attention", "ctc", and "fused" (scorers, weighted already).
        stopped: "silence" where the decoder heard nobody speak, "loop" where it was cut in one; empty: neither.
    """

    tokens: list[int]
    score: float
    token_log_probs: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    stopped: str = ""


@dataclass
class ParallelHypothesis:
    """What searches over a parallel decoder return.

    Attributes:
        tokens: ids.
        score: what the search ranks by (natural log, weights included).
        token_log_probs: per token, its log-probability under the decoder.
        parts: log-probabilities that went into it, unweighted: "decoder", "ctc", and "fused" (scorers, weighted already).
        fires: per token, the frame where CIF fires; frame_weights: CIF's weight of every frame. Empty where nobody says.
    """

    tokens: list[int]
    score: float
    token_log_probs: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    fires: list[float] = field(default_factory=list)
    frame_weights: list[float] = field(default_factory=list)


@dataclass
class TransducerHypothesis:
    """What searches over a transducer return.

    Attributes:
        tokens: ids without blanks.
        score: what the search ranks by (natural log, weights and length normalization included).
        frames: per token, the frame that emits it.
        token_log_probs: per token, its log-probability there among all tokens, blank apart: in which frame a token comes is no doubt about
            the token.
        parts: log-probabilities that went into it: "transducer", and "fused" (scorers and internal language model, weighted already).
    """

    tokens: list[int]
    score: float
    frames: list[int] = field(default_factory=list)
    token_log_probs: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
