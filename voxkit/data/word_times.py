"""Where the words of a cut lie, token by token, for models that learn word times."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def token_spans(cut: Any, tokens: list[int], vocabulary: Any) -> Tensor:
    """Start and end of the word that each token belongs to.

    Args:
        cut: of lhotse, its supervision with the alignment "word" in the time of the recording.
        tokens: of its text; vocabulary: that knows which of them make a word.

    Returns:
        [U, 2] seconds from the beginning of the cut; NaN throughout where the cut does not know its word times, or has other words than
        the tokens.
    """
    out = torch.full((len(tokens), 2), torch.nan)
    items = [item for item in ((cut.supervisions[0].alignment or {}).get("word") or []) if item.symbol.strip()]
    words = vocabulary.words(tokens)
    if [item.symbol.strip() for item in items] != [word for word, _ in words]:
        return out
    for item, (_, places) in zip(items, words):
        out[places.start:places.stop] = torch.tensor([item.start - cut.start, item.start + item.duration - cut.start])
    return out
