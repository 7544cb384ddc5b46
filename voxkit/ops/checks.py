"""Checks that searches and alignments make of what they are given."""

from __future__ import annotations

from torch import Tensor


def check_frames(log_probs: Tensor, lengths: Tensor, blank: int) -> None:
    """log_probs [B, T, V] with lengths [B] in 0..T and a blank in 0..V-1, without NaN in valid frames; else ValueError."""
    if log_probs.dim() != 3:
        raise ValueError(f"log_probs has shape {tuple(log_probs.shape)}: what is wanted is [batch, frames, tokens]")
    size, frames, vocab = log_probs.shape
    if lengths.shape != (size,):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)} for a batch of {size}: one length per utterance is needed")
    if size and (int(lengths.max()) > frames or int(lengths.min()) < 0):
        raise ValueError(f"lengths reach from {int(lengths.min())} to {int(lengths.max())}, but there are {frames} frames")
    if not 0 <= blank < vocab:
        raise ValueError(f"blank is {blank}, outside of the {vocab} tokens")
    for b in (log_probs.isnan().flatten(1).any(1).nonzero().flatten().tolist() if size else []):
        if log_probs[b, : int(lengths[b])].isnan().any():
            raise ValueError(f"log_probs of item {b} of the batch hold NaN: look at the model or its input")
