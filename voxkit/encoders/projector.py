"""Projectors: frames of an audio encoder → vectors that a language model reads in place of token embeddings. One contract, two kinds.

    stack     k frames side by side → MLP → scaled as embeddings are (SLAM-ASR, Ma et al. 2024, arXiv 2402.08846)
    lexical   CTC posteriors over the language model's own tokens weigh its own embeddings (LegoSLM, Ma et al. 2025, arXiv 2505.11352)

A language model knows what the second kind says from the start; of the first it has to learn a language, which takes hours.

B utterances · T frames · F width of a frame · N vectors · D width of the language model · C tokens that CTC tells apart
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask

KINDS = ("lexical", "stack")


@dataclass
class ProjectorConfig:
    """Attributes:
    kind: lexical or stack.
    stack: of kind stack, frames behind one vector.
    hidden: of kind stack, width of the MLP.
    blank_threshold: of kind lexical, frames whose blank is more likely than this say nothing. Near 1, doubtful tokens reach the language
        model too.
    """

    kind: str = "lexical"
    stack: int = 5
    hidden: int = 2048
    blank_threshold: float = 0.9

    def problems(self) -> list[str]:
        found = [] if self.kind in KINDS else [f"kind: {self.kind!r} is none of {', '.join(KINDS)}"]
        if self.stack < 1:
            found.append(f"stack: {self.stack} is below 1")
        if self.hidden < 1:
            found.append(f"hidden: {self.hidden} is below 1")
        if not 0 < self.blank_threshold <= 1:
            found.append(f"blank_threshold: {self.blank_threshold} is not a probability above 0")
        return found


@dataclass
class Projected:
    """What a projector makes of a batch.

    Attributes:
        embeddings: [B, N, D], zero past each utterance's end; lengths: [B], 0 where nothing was heard.
        spans: [B, N, 2] the frames behind each vector: the first, and the one after the last.
        frames: [B, T, F] as they were before; frame_lengths: [B].
    """

    embeddings: Tensor
    lengths: Tensor
    spans: Tensor
    frames: Tensor
    frame_lengths: Tensor


class StackProjector(nn.Module):
    """Frames side by side → LayerNorm → linear → GELU → linear → the embeddings' root mean square.

    Args:
        config: sizes.
        frame_dim, dim: F and D.
        rms: of the language model's embeddings: vectors of another size are noise to its first layer.
    """

    needs_ctc = False

    def __init__(self, config: ProjectorConfig, frame_dim: int, dim: int, rms: float) -> None:
        super().__init__()
        self.stack = config.stack
        self.norm = nn.LayerNorm(config.stack * frame_dim)
        self.into, self.out = nn.Linear(config.stack * frame_dim, config.hidden), nn.Linear(config.hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), rms))

    def forward(self, frames: Tensor, lengths: Tensor, log_probs: Tensor | None = None, table: Tensor | None = None) -> Projected:
        """frames [B, T, F], lengths [B] → vectors at a k-th of their rate; the last stack of an utterance is filled up with zeros."""
        size, most = frames.shape[:2]
        x = frames.masked_fill(~lengths_to_mask(lengths, most)[..., None], 0.0)
        x = F.pad(x, (0, 0, 0, -most % self.stack)).reshape(size, -1, self.stack * frames.shape[2])
        y = self.out(F.gelu(self.into(self.norm(x))))
        y = F.rms_norm(y.float(), y.shape[-1:]) * self.scale
        count = (lengths + self.stack - 1) // self.stack
        first = torch.arange(x.shape[1], device=lengths.device) * self.stack
        spans = torch.stack([first.expand(size, -1), torch.minimum((first + self.stack).expand(size, -1), lengths[:, None])], -1)
        mask = lengths_to_mask(count, x.shape[1])[..., None]
        return Projected(y.masked_fill(~mask, 0.0), count, spans.masked_fill(~mask, 0), frames, lengths)


class LexicalProjector(nn.Module):
    """One vector for every token that CTC hears: the mean of the language model's embeddings, weighed by the posteriors.

    Frames where blank is likely are left out; neighbors whose likeliest token is the same are one token. The posteriors, and the
    language model's own table, carry the gradient; there are no weights here.

    Args:
        config: the threshold.
        specials: ids below this are no text (blank and end).
    """

    needs_ctc = True

    def __init__(self, config: ProjectorConfig, specials: int = 2) -> None:
        super().__init__()
        self.threshold, self.specials = config.blank_threshold, specials

    def forward(self, frames: Tensor, lengths: Tensor, log_probs: Tensor | None = None, table: Tensor | None = None) -> Projected:
        """frames [B, T, F], lengths [B], CTC log-probabilities [B, T, C] with blank first, the tokens' embeddings [C, D]."""
        assert log_probs is not None and table is not None, "needs_ctc says so"
        segment, best = self.segments(log_probs.detach(), lengths)
        kept = segment >= 0
        batch, frame = kept.nonzero(as_tuple=True)
        count = segment.amax(1) + 1
        most = max(1, int(count.max()))
        slot = batch * most + segment[batch, frame]
        spoken = log_probs[batch, frame][:, self.specials:].exp()
        mass = spoken.new_zeros(len(lengths) * most, spoken.shape[1]).index_add(0, slot, spoken)
        weights = mass / mass.sum(1, keepdim=True).clamp(min=1e-6)
        x = (weights.to(table.dtype) @ table[self.specials:log_probs.shape[2]]).unflatten(0, (len(lengths), most))
        first = torch.full((len(lengths) * most,), frames.shape[1], device=lengths.device).scatter_reduce(0, slot, frame, "amin")
        last = torch.zeros(len(lengths) * most, dtype=torch.long, device=lengths.device).scatter_reduce(0, slot, frame + 1, "amax")
        mask = lengths_to_mask(count, most)[..., None]
        spans = torch.stack([first, last], -1).unflatten(0, (len(lengths), most)).masked_fill(~mask, 0)
        return Projected(x.masked_fill(~mask, 0.0), count, spans, frames, lengths)

    def segments(self, log_probs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """→ the segment that each frame belongs to [B, T], -1: none; the likeliest token of each frame [B, T]."""
        best = log_probs[..., self.specials:].argmax(-1) + self.specials
        kept = (log_probs[..., 0].exp() < self.threshold) & lengths_to_mask(lengths, log_probs.shape[1])
        before = F.pad(kept, (1, 0))[:, :-1] & (F.pad(best, (1, 0))[:, :-1] == best)
        return ((kept & ~before).cumsum(1) - 1).masked_fill(~kept, -1), best


def build_projector(config: ProjectorConfig, frame_dim: int, dim: int, rms: float) -> StackProjector | LexicalProjector:
    """The projector that a configuration names.

    Args:
        frame_dim: width of a frame; dim, rms: width and root mean square of the language model's embeddings.
    """
    return LexicalProjector(config) if config.kind == "lexical" else StackProjector(config, frame_dim, dim, rms)
