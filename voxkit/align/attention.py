"""Token times from cross-attention, as Whisper does: normalize over tokens, median filter over time, mean of heads, DTW."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from voxkit.align.spans import TokenSpan
from voxkit.ops.dtw import dtw, median_filter


@torch.no_grad()
def attention_spans(weights: Tensor, tokens: Sequence[int], log_probs: Sequence[float] | None = None, *, frames: int | None = None,
                    heads: Sequence[tuple[int, int]] | None = None, width: int = 7, logits: bool = False) -> list[TokenSpan]:
    """Spans of one utterance's tokens.

    Args:
        weights: [L, H, U, T] cross-attention of every layer and head while token u is *predicted* (row u: its query), one row
            for each token and at least one more for the end, whose frames belong to no token; or [H, U, T].
        tokens: the ids, U or fewer.
        log_probs: per token, for confidences.
        frames: valid frames, the rest is cut off.
        heads: (layer, head) to use; None: all. `best_heads` finds those that align.
        width: of the median filter in frames, odd.
        logits: the weights are before the softmax.
    """
    if weights.dim() == 3:
        weights = weights[None]
    if weights.dim() != 4 or weights.shape[2] < len(tokens):
        raise ValueError(f"attention weights {tuple(weights.shape)} do not fit {len(tokens)} tokens: "
                         "[layers, heads, tokens, frames] is needed")
    if not len(tokens):
        return []
    matrix = attention_matrix(weights[..., : frames or weights.shape[3]], heads, width, logits)
    rows, columns = dtw(-matrix[None])[0]
    starts = [int(columns[rows == u][0]) for u in range(len(matrix))]
    starts.append(matrix.shape[1])
    scores = log_probs or [0.0] * len(tokens)
    return [TokenSpan(token, starts[u], max(starts[u + 1], starts[u] + 1), scores[u], scores[u]) for u, token in enumerate(tokens)]


def attention_matrix(weights: Tensor, heads: Sequence[tuple[int, int]] | None = None, width: int = 7, logits: bool = False) -> Tensor:
    """weights [L, H, U, T] → [U, T]: how well each token goes with each frame."""
    chosen = weights.flatten(0, 1) if heads is None else torch.stack([weights[layer, head] for layer, head in heads])
    chosen = chosen.float().softmax(-1) if logits else chosen.float()
    spread, mean = torch.std_mean(chosen, dim=-2, keepdim=True, unbiased=False)
    return median_filter((chosen - mean) / spread.clamp(min=1e-8), width).mean(0)


@torch.no_grad()
def best_heads(examples: Sequence[tuple[Tensor, Sequence[float]]], count: int = 6) -> list[tuple[int, int]]:
    """Heads whose attention lies where the tokens are.

    Args:
        examples: (weights [L, H, U, T] after the softmax, center frame of each token) of a few utterances aligned otherwise (CTC).

    Returns:
        (layer, head), best first: least mean distance between a token's attention and its frame.
    """
    if not examples:
        raise ValueError("no examples: heads cannot be chosen; pass heads=None to use all")
    distance = torch.stack([(w[:, :, : len(c)] * (torch.arange(w.shape[3])[None] - torch.tensor(c)[:, None]).abs()).sum(-1).mean(-1)
                            for w, c in examples]).mean(0)
    order = distance.flatten().argsort()[:count].tolist()
    return [(i // distance.shape[1], i % distance.shape[1]) for i in order]
