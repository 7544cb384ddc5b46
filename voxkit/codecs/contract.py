"""What a codec is: audio in, a few small integers for each frame, audio out.

A codec of our own is trained by `voxkit train` (voxkit/models/codec.py); one of another's is pretrained (voxkit/codecs/pretrained.py).
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from voxkit.batch import Padded


class Codec(nn.Module):
    """Audio ↔ codes.

    Attributes:
        sample_rate: Hz, of the audio that goes in and comes out; one channel.
        frame_rate: frames per second of the codes.
        codebooks: integers for each frame, the coarsest first.
        size: how many values each has, 0 ... size - 1.
    """

    sample_rate: int
    frame_rate: float
    codebooks: int
    size: int

    def encode(self, audio: Padded) -> Padded:
        """audio [B, S] in [-1, 1] → codes [B, T, Q] long; a frame for every begun 1 / frame_rate seconds. Padding never matters."""
        raise NotImplementedError

    def decode(self, codes: Padded) -> Padded:
        """codes [B, T, q], the first q books of Q → audio [B, S] with zeros past each length, T / frame_rate seconds long.

        Raises:
            ValueError: more books than there are, where this codec has to have all of them: fewer.
        """
        raise NotImplementedError

    @property
    def bits_per_second(self) -> float:
        """Nominal rate: what the codes take if nothing is known of them."""
        return self.frame_rate * self.codebooks * math.log2(self.size)

    def check_codes(self, codes: Tensor) -> None:
        """Refuse codes that are not this codec's.

        Raises:
            ValueError: says what is wrong with them.
        """
        if codes.ndim != 3 or not 1 <= codes.shape[2] <= self.codebooks:
            raise ValueError(f"codes of shape {list(codes.shape)}: this codec takes [batch, frames, books], 1 to {self.codebooks} books")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.size:
            raise ValueError(f"codes from {int(codes.min())} to {int(codes.max())}: this codec's are 0 to {self.size - 1}")
