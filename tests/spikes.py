"""Scores of a CTC head that is sure of what it says."""

import torch


def spikes(frames: int, *places: tuple[int, int], vocab: int = 6) -> torch.Tensor:
    """[frames, vocab] log-probabilities: at each (frame, token) of `places` that token, blank elsewhere."""
    labels = torch.zeros(frames, dtype=torch.long)
    for t, token in places:
        labels[t] = token
    return (9.0 * torch.nn.functional.one_hot(labels, vocab)).log_softmax(-1)
