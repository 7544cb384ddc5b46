"""Where words lie: cross-attention from a language model's text states to the audio frames before they were compressed.

Frame by frame it says which of the words of a text is being spoken, or none. A frame's probabilities add up to one over the words and the
pause, so that a path through them is a path of probabilities (`voxkit.align.monotone`).

B utterances · U tokens · W words · T frames · D width of a text state · F width of a frame
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask
from voxkit.nn.depthwise import depthwise


@dataclass
class AlignmentConfig:
    """Attributes:
    dim: width in which words and frames are compared.
    kernel: frames that one looks at, odd.
    layers: of convolution over the frames.
    dropout: on words and frames, in training.
    """

    dim: int = 256
    kernel: int = 9
    layers: int = 2
    dropout: float = 0.1

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is below 1" for name in ("dim", "kernel", "layers") if getattr(self, name) < 1]
        if self.kernel % 2 == 0:
            found.append(f"kernel: {self.kernel} is not odd, so that no frame would be in its middle")
        if not 0 <= self.dropout < 1:
            found.append(f"dropout: {self.dropout} is not in [0, 1)")
        return found


class _Convolution(nn.Module):
    """x + a depthwise convolution over time, LayerNorm before, GELU and linear after."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.out, self.half = nn.LayerNorm(dim), nn.Linear(dim, dim), kernel // 2
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, D], mask [B, T, 1]; padding counts as zeros, as what lies beyond a batch does."""
        y = self.norm(x).masked_fill(~mask, 0.0)
        y = depthwise(y.transpose(1, 2), self.depthwise.weight, self.depthwise.bias, self.half).transpose(1, 2)
        return x + self.out(F.gelu(y))


class AlignmentHead(nn.Module):
    """Words asked, frames answer.

    Args:
        config: sizes.
        text_dim: width of the language model's states; frame_dim: width of a frame.

    Attributes:
        learned: whether it was ever trained: what it says before is noise.
    """

    def __init__(self, config: AlignmentConfig, text_dim: int, frame_dim: int) -> None:
        super().__init__()
        self.config = config
        self.text = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, config.dim), nn.GELU(), nn.Linear(config.dim, config.dim))
        self.frame_norm, self.frame_in = nn.LayerNorm(frame_dim), nn.Linear(frame_dim, config.dim)
        self.convolutions = nn.ModuleList(_Convolution(config.dim, config.kernel) for _ in range(config.layers))
        self.frame_out = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.dim))
        self.pause = nn.Linear(config.dim, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("learned", torch.tensor(False))

    def forward(self, text: Tensor, words: Tensor, frames: Tensor, frame_lengths: Tensor) -> Tensor:
        """Which word each frame belongs to.

        Args:
            text: [B, U, D] states at the tokens; words: [B, U] the word that each token belongs to, counted from 0; -1: none, padding.
            frames: [B, T, F]; frame_lengths: [B].

        Returns:
            log-probabilities [B, W + 1, T]: pause first; of words that an utterance has not, minus infinity. W is the most words.
        """
        mask = lengths_to_mask(frame_lengths, frames.shape[1])[..., None]
        x = self.frame_in(self.dropout(self.frame_norm(frames.float())))
        for convolution in self.convolutions:
            x = convolution(x, mask)
        keys = self.frame_out(x)
        asked, there = self._words(self.text(self.dropout(text.float())), words)
        scores = asked @ keys.transpose(1, 2) * self.config.dim**-0.5
        scores = scores.masked_fill(~there[..., None], -torch.inf)
        return torch.cat([self.pause(x).transpose(1, 2), scores], 1).log_softmax(1)

    @staticmethod
    def _words(x: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, U, D] of tokens → means over each word's [B, W, D], and which words there are [B, W]."""
        count = max(1, int(words.max()) + 1) if words.numel() else 1
        member = F.one_hot(words.clamp(min=0), count).to(x.dtype) * (words >= 0)[..., None]
        sums = member.transpose(1, 2) @ x
        number = member.sum(1)[..., None]
        return sums / number.clamp(min=1), number[..., 0] > 0

    def loss(self, log_probs: Tensor, spans: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy with how much of each frame each word has.

        Args:
            log_probs: [B, W + 1, T] of `forward`.
            spans: [B, W, 2] start and end of each word in frames, fractions too; NaN where a word's place is not known, which leaves its
                utterance out.
            frame_lengths: [B].

        Returns:
            sum over frames in nats, and frames counted.
        """
        if self.training:
            self.learned.fill_(True)
        frames = log_probs.shape[2]
        there = log_probs[:, 1:, 0] > -torch.inf
        known = ~(spans.isnan().any(-1) & there).any(1)
        edge = torch.arange(frames, device=spans.device)
        filled = spans.nan_to_num(0.0)
        share = (torch.minimum(filled[..., 1:], edge + 1.0) - torch.maximum(filled[..., :1], edge.float())).clamp(0, 1)
        share = share.masked_fill(~there[..., None], 0.0)
        share = share / share.sum(1, keepdim=True).clamp(min=1.0)  # words that overlap share a frame
        target = torch.cat([1 - share.sum(1, keepdim=True), share], 1)
        counted = lengths_to_mask(frame_lengths, frames) & known[:, None]
        per_frame = -(target * log_probs.masked_fill(target == 0, 0.0)).sum(1)
        return per_frame.masked_fill(~counted, 0.0).sum(), counted.sum()
