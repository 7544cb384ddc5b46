"""Long audio through an encoder that takes a limited length: overlapping windows, their inner frames joined."""

from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Encode = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def in_windows(encode: Encode, audio: Tensor, lengths: Tensor, most: int, samples_per_frame: int, context: int) -> tuple[Tensor, Tensor]:
    """Encode utterances of any length.

    Args:
        encode: audio [B, S], lengths [B] → states [B, L, T, D], lengths [B]; for at most `most` samples.
        audio: [B, S]; lengths: [B] samples.
        most: samples in a window; samples_per_frame: samples behind one state.
        context: samples at a window's inner edges whose states are thrown away, seen by the neighbor from within.

    Returns:
        As `encode`; an utterance of at most `most` samples gives exactly what it gives alone.
    """
    context -= context % samples_per_frame
    step = most - 2 * context
    step -= step % samples_per_frame
    out: list[Tensor] = []
    for wave, length in zip(audio, lengths.tolist()):
        if length <= most:
            states, frames = encode(wave[None, :length], torch.tensor([length], device=audio.device))
            out.append(states[0, :, :int(frames[0])])
            continue
        pieces = []
        for start in range(0, length, step):
            left, right = max(0, start - context), min(length, start + step + context)
            last = start + step >= length or length - (start + step) < samples_per_frame
            right = length if last else right
            states, frames = encode(wave[None, left:right], torch.tensor([right - left], device=audio.device))
            first = (start - left) // samples_per_frame
            end = int(frames[0]) if last else first + step // samples_per_frame
            pieces.append(states[0, :, first:end])
            if last:
                break
        out.append(torch.cat(pieces, dim=1))
    frames = torch.tensor([states.shape[1] for states in out], device=lengths.device)
    longest = int(frames.max())
    return torch.stack([F.pad(states, (0, 0, 0, longest - states.shape[1])) for states in out]), frames
