"""Whether a vocabulary can spell a set's transcripts, asked before training: lower-case text under an upper-case tokenizer is `<unk>` from
end to end, and a model that learns it looks well trained and knows nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import islice
from typing import Any

from voxkit.data.sampler import text_of
from voxkit.text.coverage import MOST, Coverage
from voxkit.text.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_LOOKED_AT = 20_000  # transcripts of a large set


def check_coverage(cuts: Iterable[Any], vocabulary: Vocabulary, where: str, most: float = MOST) -> Coverage:
    """Refuse sets that a vocabulary cannot spell; warn of the odd transcript that it cannot.

    Args:
        cuts: of a set; of a large one the first 20,000 are looked at.
        where: names the option in messages, e.g. `data.train`.
        most: share of transcripts with unknown characters above which they are refused.

    Returns:
        the counts.

    Raises:
        ValueError: more transcripts than that hold unknown characters; the message names some of both.
    """
    coverage = Coverage(vocabulary)
    for cut in islice(cuts, _LOOKED_AT):
        coverage.encode(cut.id, text_of(cut))
    if said := coverage.check(where, most):
        logger.warning("%s", said)
    return coverage
