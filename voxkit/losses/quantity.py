"""Quantity loss of CIF: the weights of an utterance should sum to its number of tokens (Dong & Xu 2020)."""

from __future__ import annotations

from torch import Tensor


def quantity_loss(quantity: Tensor, token_lengths: Tensor) -> Tensor:
    """Sums of weights before scaling [B], true numbers of tokens [B] → absolute errors [B], in tokens."""
    return (quantity - token_lengths).abs()
