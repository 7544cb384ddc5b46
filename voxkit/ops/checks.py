"""Checks of what functions and modules are given: shapes by name, and what searches and alignments need."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def check_shapes(tensors: Mapping[str, tuple[Tensor, str]], **sizes: int) -> None:
    """Every tensor has the dimensions that its letters say, and a letter is the same size everywhere.

        check_shapes({"frames": (frames, "BTD"), "weights": (weights, "BT")}, D=256)

    Args:
        tensors: name → tensor and a letter for each of its dimensions.
        sizes: what letters are known to be.

    Raises:
        ValueError: the tensor's name and shape, and what it should be.
    """
    known = {letter: (size, "") for letter, size in sizes.items()}
    for name, (tensor, letters) in tensors.items():
        if tensor.dim() != len(letters) or any(known.get(at, (size,))[0] != size for at, size in zip(letters, tensor.shape)):
            wanted = ", ".join(f"{at} = {known[at][0]}{known[at][1]}" for at in letters if at in known)
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}: what is wanted is [{', '.join(letters)}]"
                             + (f" with {wanted}" if wanted else ""))
        for at, size in zip(letters, tensor.shape):
            known.setdefault(at, (size, f" as in {name}"))


def check_lengths(lengths: Tensor, frames: int) -> None:
    """lengths [B] in 0..frames; else ValueError. A graph that is being traced has no lengths yet and is not checked."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or not lengths.numel():
        return
    if int(lengths.max()) > frames or int(lengths.min()) < 0:
        raise ValueError(f"lengths reach from {int(lengths.min())} to {int(lengths.max())}, but there are {frames} frames")


def check_frames(log_probs: Tensor, lengths: Tensor, blank: int) -> None:
    """log_probs [B, T, V] with lengths [B] in 0..T and a blank in 0..V-1, without NaN in valid frames; else ValueError."""
    if log_probs.dim() != 3:
        raise ValueError(f"log_probs has shape {tuple(log_probs.shape)}: what is wanted is [batch, frames, tokens]")
    size, frames, vocab = log_probs.shape
    if lengths.shape != (size,):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)} for a batch of {size}: one length per utterance is needed")
    check_lengths(lengths, frames)
    if not 0 <= blank < vocab:
        raise ValueError(f"blank is {blank}, outside of the {vocab} tokens")
    if not bool(log_probs.detach().sum().isnan()):  # a NaN anywhere makes the sum one, and a sum costs a fifth of looking at all
        return
    for b in log_probs.isnan().flatten(1).any(1).nonzero().flatten().tolist():
        if log_probs[b, : int(lengths[b])].isnan().any():
            raise ValueError(f"log_probs of item {b} of the batch hold NaN: look at the model or its input")
