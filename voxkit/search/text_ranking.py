"""Which of a search's hypotheses is taken: the first, or the one that a second language model, over text, agrees with most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import Vocabulary


def best_of(nbest: Sequence[Sequence[Any]], vocabulary: Vocabulary, options: SearchOptions, power: float = 0.0) -> list[Any]:
    """Lists of hypotheses, best first → of each list one, its score with the second language model's in it.

    Of each list the first `options.nbest` are looked at. The model scores text, so that it may have a tokenizer of its own; its
    log-probability is added with its weight to what the search ranked by, and divided by length to the same `power`.
    """
    if options.rescore_lm is None:
        return [row[0] for row in nbest]
    nbest = [row[:options.nbest] for row in nbest]
    texts = [[vocabulary.decode(h.tokens) for h in row] for row in nbest]
    scores = iter(options.rescore_lm.score([text for row in texts for text in row]))
    out = []
    for row in nbest:
        scored = [replace(h, score=h.score + options.rescore_weight * next(scores) / (len(h.tokens) + 1) ** power) for h in row]
        out.append(max(scored, key=lambda h: h.score))
    return out
