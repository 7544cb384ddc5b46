"""Where tokens end, told to CIF by CTC (the idea: Yu et al. 2021, arXiv 2104.04702).

The quantity loss says how many tokens an utterance has and nothing about where they are. A CTC head on the same states knows that: it
spikes once a token. The best path through the reference gives the frames of the spikes, and half-way between those of two tokens one ends
and the next begins:

    spikes       ─────── 1 ───────────── 2 ─── 3 ──────
    boundaries                  |           |
    weight wanted        1             1          1

Half-way, because then each token has its own spike well inside, wherever in its sound CTC likes to spike. How the weight of a token lies
between its boundaries is left to the predictor: it may give the frames of a pause nothing, and `voxkit.align.cif.sound_ends` ends words
before such frames.

The loss is on the weight of each token by itself, before scaling, and not on the running sum: one token that is missed early in an
utterance puts all later sums wrong, and nearly all of the gradient would be about that one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.ops.cif_boundaries import Boundaries, token_masses
from voxkit.ops.ctc_path import best_path, greedy_path, repetitions, token_frames


@torch.no_grad()
def ctc_boundaries(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Boundaries:
    """Where a CTC head has the boundaries between the tokens of a text.

    Args:
        log_probs: [B, T, V], blank 0; lengths: [B].
        tokens: [B, U] padded with anything; token_lengths: [B].

    Returns:
        half-way between the last frame of a token and the first of the next; not known where CTC cannot align (more tokens than frames).
    """
    size, most = tokens.shape
    valid = lengths_to_mask(token_lengths, most)
    tokens = tokens.masked_fill(~valid, 0)
    known = lengths >= token_lengths + repetitions(tokens, token_lengths)
    if log_probs.shape[1] == 0:
        return Boundaries(log_probs.new_full((size, max(most - 1, 0)), torch.inf, dtype=torch.float32), known)
    path, _ = best_path(log_probs.float(), lengths, tokens, token_lengths)
    return Boundaries(_half_way(path, lengths, token_lengths, most), known)


def greedy_boundaries(log_probs: Tensor, lengths: Tensor) -> tuple[Boundaries, Tensor]:
    """The same for the tokens that the head itself says, best label by best label, and how many these are [B]."""
    path, counts = greedy_path(log_probs, lengths)
    most = int(counts.max()) if len(counts) else 0
    return Boundaries(_half_way(path, lengths, counts, most), torch.ones_like(counts, dtype=torch.bool)), counts


def _half_way(path: Tensor, lengths: Tensor, counts: Tensor, most: int) -> Tensor:
    first, end = token_frames(path, lengths, most)
    times = ((end[:, :-1] + first[:, 1:]) / 2).masked_fill(~lengths_to_mask(counts, most)[:, 1:], torch.inf)
    return times.cummax(1).values if times.numel() else times  # of an utterance without a path they rise too


def boundary_loss(weights: Tensor, boundaries: Boundaries, token_lengths: Tensor) -> Tensor:
    """How far the weight of each token is from 1.

    Args:
        weights: [B, T] of CIF before scaling, 0 in padding.
        token_lengths: [B].

    Returns:
        [B] absolute errors summed over the tokens; 0 where the boundaries are not known.
    """
    masses = token_masses(weights, boundaries.times)
    counted = lengths_to_mask(token_lengths, masses.shape[1]) & boundaries.known[:, None]
    return (masses - 1).abs().masked_fill(~counted, 0.0).sum(1)
