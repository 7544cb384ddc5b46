"""What posteriors leave open: the tokens of each frame that a CTC search has to look at, for a whole batch at once.

A trained CTC model is sure of blank in four frames of five, and of the others leaves a few tokens open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from voxkit.search.beam_settings import BeamSettings


@dataclass
class OpenFrames:
    """N frames that are no sure blanks, utterance after utterance, and the M tokens that they leave open, one after the other.

    Attributes:
        log_probs: [B, T, V] all of them; log_blank: [B, T] those of blank; lengths: [B].
        item, frame: [N] utterance and frame; kept: [B] how many of N are of each utterance.
        counts: [N] tokens that are open; tokens, probs: [M] which, and their probabilities.
    """

    log_probs: np.ndarray
    log_blank: np.ndarray
    lengths: np.ndarray
    item: np.ndarray
    frame: np.ndarray
    kept: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray
    probs: np.ndarray


def open_frames(log_probs: Tensor, lengths: Tensor, search: BeamSettings) -> OpenFrames:
    """What a search with these options looks at in log_probs [B, T, V] (on the CPU), lengths [B]."""
    x, n = log_probs.float().numpy(), lengths.numpy()
    vocab = x.shape[2]
    log_blank = x[..., search.blank].astype(np.float64)
    keep = np.arange(x.shape[1]) < n[:, None]
    if search.blank_skip is not None:
        keep &= ~(np.exp(log_blank) >= search.blank_skip)
    item, frame = keep.nonzero()
    rows = x[item, frame]
    rows[:, search.blank] = -np.inf
    is_open = rows >= search.min_log_prob if search.min_log_prob is not None else rows > -np.inf
    counts, limit = np.count_nonzero(is_open, axis=1), min(search.candidates, vocab - 1)
    wide = np.flatnonzero(counts > limit)
    if len(wide):  # of these the best: to find them costs more than all the rest
        best = rows[wide]
        is_open[wide] &= best >= np.partition(best, vocab - limit, axis=1)[:, vocab - limit, None]
        counts[wide] = np.count_nonzero(is_open[wide], axis=1)
    at = np.flatnonzero(is_open)
    return OpenFrames(x, log_blank, n, item, frame, np.count_nonzero(keep, axis=1), counts, at % vocab,
                      np.exp(rows.ravel()[at].astype(np.float64)))
