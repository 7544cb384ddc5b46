"""Where one chunk of frames ends and the next begins: after so many frames, in a silence, or between words; with or without overlap.

A step of fast weights is taken at each border. `ChunkProcessor.layout` says which frame goes where, once for all layers of a network;
`Layout` moves frames into chunks of one size with places left empty, and back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask

BORDERS = ("fixed", "marked")


@dataclass(frozen=True)
class Layout:
    """Frames [B, T] in C chunks of M places, and what each chunk learns from, K frames.

    Attributes:
        chunk, keys: M and K.
        queries: [B, C · M] which frame is read in which place; places left empty hold some frame, which means nothing.
        learned: [B, C · K] which frame is learned from in which place; valid: [B, C · K] whether there is one.
        back: [B, T] in which place of `queries` a frame is.
    """

    chunk: int
    keys: int
    queries: Tensor
    learned: Tensor
    valid: Tensor
    back: Tensor

    def to_queries(self, x: Tensor) -> Tensor:
        """[B, T, ...] → [B, C · M, ...]."""
        return _pick(x, self.queries)

    def to_learned(self, x: Tensor) -> Tensor:
        """[B, T, ...] → [B, C · K, ...]."""
        return _pick(x, self.learned)

    def restore(self, x: Tensor) -> Tensor:
        """[B, C · M, ...] → [B, T, ...]."""
        return _pick(x, self.back)


class ChunkProcessor:
    """Cuts sequences into chunks.

    Args:
        chunk: frames a chunk has at the most. 32-256 suit training on utterances, 512-4096 very long audio.
        overlap: frames before a chunk that are learned from again with it.
        borders: fixed: every `chunk` frames; marked: at the first mark from `least` frames on, at the latest after `chunk`. That is known
            when the frame has been heard, so that it streams.
        least: frames a chunk has at the least, but for the last.

    Raises:
        ValueError: numbers that make no chunks.
    """

    def __init__(self, chunk: int, overlap: int = 0, borders: str = "fixed", least: int = 32) -> None:
        if borders not in BORDERS:
            raise ValueError(f"borders: {borders!r} is none of {', '.join(BORDERS)}")
        if chunk < 1 or overlap < 0 or borders == "marked" and not 1 <= least <= chunk:
            raise ValueError(f"chunk: {chunk}, overlap: {overlap}, least: {least}: chunks have 1 frame or more, an overlap of 0 or more, "
                             "and `least` is between 1 and `chunk`")
        self.chunk, self.overlap, self.borders, self.least = chunk, overlap, borders, least

    def layout(self, lengths: Tensor, frames: int, marks: Tensor | None = None) -> Layout | None:
        """Args:
            lengths: [B]; frames: T, the padded length.
            marks: [B, T] bool, a chunk may end with this frame; for borders "marked".

        Returns:
            the layout; None where chunks follow each other every `chunk` frames without overlap: frames are where they belong.

        Raises:
            ValueError: no marks where they are needed.
        """
        if self.borders == "fixed" and not self.overlap:
            return None
        if self.borders == "fixed":
            starts = torch.arange(0, max(frames, 1), self.chunk, device=lengths.device).expand(len(lengths), -1)
            sizes = (lengths[:, None] - starts).clamp(0, self.chunk)
        else:
            if marks is None:
                raise ValueError("borders: marked needs marks, one for each frame: silence_marks or token_marks gives them")
            starts, sizes = self._marked(lengths, marks)
        return self._layout(starts, sizes, frames)

    def ends(self, lengths: Tensor, marks: Tensor) -> list[list[int]]:
        """Behind which frame each chunk of each sequence ends, by the rule for marks."""
        found = []
        for length, row in zip(lengths.tolist(), marks.tolist()):
            ends, begin = [], 0
            for at in range(length):
                size = at + 1 - begin
                if size == self.chunk or size >= self.least and row[at] or at + 1 == length:
                    ends.append(at + 1)
                    begin = at + 1
            found.append(ends)
        return found

    def _marked(self, lengths: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """Start and size of each chunk [B, C]; chunks past the last have size 0."""
        ends = self.ends(lengths, marks)
        count = max(1, *map(len, ends)) if ends else 1
        starts = torch.zeros(len(ends), count, dtype=torch.long)
        sizes = torch.zeros(len(ends), count, dtype=torch.long)
        for b, row in enumerate(ends):
            begins = [0, *row[:-1]]
            starts[b, :len(row)] = torch.tensor(begins[:len(row)], dtype=torch.long)
            sizes[b, :len(row)] = torch.tensor(row, dtype=torch.long) - starts[b, :len(row)]
        return starts.to(lengths.device), sizes.to(lengths.device)

    def _layout(self, starts: Tensor, sizes: Tensor, frames: int) -> Layout:
        batch, count = starts.shape
        device, keys = starts.device, self.chunk + self.overlap
        place = torch.arange(-self.overlap, self.chunk, device=device)
        frame = starts[..., None] + place
        valid = (frame >= 0) & (place < sizes[..., None]) & (sizes[..., None] > 0)
        frame = frame.clamp(0, max(frames - 1, 0))
        queries = frame[..., self.overlap:].flatten(1)
        inside = place[self.overlap:] < sizes[..., None]
        back = torch.zeros(batch, frames, dtype=torch.long, device=device)
        slots = torch.arange(count * self.chunk, device=device).expand(batch, -1)
        inside = inside.flatten(1)
        row = torch.arange(batch, device=device)[:, None].expand_as(queries)
        back[row[inside], queries[inside]] = slots[inside]
        return Layout(self.chunk, keys, queries, frame.flatten(1), valid.flatten(1), back)


def silence_marks(audio: Tensor, lengths: Tensor, frames: int, below: float = 20.0) -> Tensor:
    """Frames so much quieter than the loud ones of their utterance that a chunk may end there.

    Args:
        audio: [B, S] samples; lengths: [B] of them.
        frames: how many frames of equal length the S samples make.
        below: dB below the 90th percentile of the utterance's frames.

    Returns:
        [B, frames] bool.
    """
    samples = audio.shape[1]
    width = max(1, -(-samples // max(frames, 1)))
    power = torch.nn.functional.pad(audio.square(), (0, width * frames - samples)).view(len(audio), frames, width).mean(-1)
    level = 10 * power.clamp(min=1e-12).log10()
    valid = lengths_to_mask(-(-lengths // width), frames)
    loud = torch.stack([row[on].quantile(0.9) if on.any() else row.new_zeros(()) for row, on in zip(level, valid)])
    return (level < loud[:, None] - below) & valid


def token_marks(log_probs: Tensor, blank: int = 0, starts: list[bool] | None = None) -> Tensor:
    """Frames behind which a CTC head says that a new token begins: the last frame before each token that is not blank.

    Args:
        log_probs: [B, T, V].
        starts: for each token of the vocabulary whether a word begins with it: marks are then between words. None = between tokens.

    Returns:
        [B, T] bool.
    """
    best = log_probs.argmax(-1)
    before = torch.nn.functional.pad(best[:, :-1], (1, 0), value=blank)
    begins = (best != blank) & (best != before)
    if starts is not None:
        begins &= torch.tensor(starts, device=best.device)[best]
    return torch.nn.functional.pad(begins[:, 1:], (0, 1), value=False)


def _pick(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index.view(*index.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))
