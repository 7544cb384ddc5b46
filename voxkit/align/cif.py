"""Fire times of CIF → places of tokens: one token ends where it fires, the next begins there."""

from __future__ import annotations

from collections.abc import Sequence

from voxkit.align.ctc import TokenSpan


def spans_from_fires(tokens: Sequence[int], times: Sequence[float], log_probs: Sequence[float], pieces: Sequence[str]) -> list[TokenSpan]:
    """Spans for `words_from_tokens`.

    Args:
        tokens: ids; times: where each ends, in frames; log_probs: of each.
        pieces: [V] of the tokenizer. A token that is a word boundary and nothing else ("▁") covers the pause before the word: it gets no
            length, so that the word begins when the pause is over.

    Raises:
        ValueError: not one time and log-probability for each token.
    """
    if not len(tokens) == len(times) == len(log_probs):
        raise ValueError(f"{len(tokens)} tokens, {len(times)} times and {len(log_probs)} log-probabilities: one of each is needed for each")
    spans, before = [], 0.0
    for token, end, log_prob in zip(tokens, times, log_probs):
        spans.append(TokenSpan(token, end if pieces[token] == "▁" else before, end, log_prob, log_prob))
        before = end
    return spans
