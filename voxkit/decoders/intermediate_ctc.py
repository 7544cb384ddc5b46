"""CTC half-way up: heads on lower states, which learn to read early and may tell the layers above what they read.

A CTC loss on intermediate layers regularizes the encoder (Lee & Watanabe 2021, arXiv 2102.03216); self-conditioned, the layers above also
get each head's posteriors, so that a frame's output depends on what the others have been taken for (Nozaki & Komatsu 2021,
arXiv 2104.02724). On a pretrained front end, a head at place 0 gives the open layers a short way to the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class IntermediateCtcConfig:
    """Attributes:
    after: places of the heads: 0 = on the front end's vectors, n = after the encoder's n-th stack (of a Zipformer) or layer; empty = none.
    self_conditioned: whether what a head reads is added to what goes on.
    """

    after: list[int] = field(default_factory=list)
    self_conditioned: bool = True

    def problems(self) -> list[str]:
        found = [f"after: {place} is negative; 0 is the front end, n the n-th stack or layer" for place in self.after if place < 0]
        return found + ([f"after: {self.after} names a place twice"] if len(set(self.after)) < len(self.after) else [])


class IntermediateCtc(nn.Module):
    """The heads.

    Args:
        config: with places.
        dims: width of the states at each place that there is, counted from 0.
        vocab_size: pieces, blank (0) among them.

    Raises:
        ValueError: a place that is not there.
    """

    def __init__(self, config: IntermediateCtcConfig, dims: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        beyond = [place for place in config.after if place >= len(dims)]
        if beyond:
            raise ValueError(f"model.intermediate_ctc.after: {beyond[0]} is beyond the encoder's last stack or layer, {len(dims) - 1}")
        self.heads = nn.ModuleDict({str(place): nn.Linear(dims[place], vocab_size) for place in config.after})
        told = config.after if config.self_conditioned else []
        self.conditioning = nn.ModuleDict({str(place): nn.Linear(vocab_size, dims[place]) for place in told})

    def forward(self, place: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """States x [B, T, D] at a place → what goes on [B, T, D], and the head's log-probabilities [B, T, V], float32; where there is no
        head, x and None."""
        key = str(place)
        if key not in self.heads:
            return x, None
        log_probs = self.heads[key](x).float().log_softmax(-1)
        if key in self.conditioning:
            x = x + self.conditioning[key](log_probs.exp().to(x.dtype))
        return x, log_probs


def build_intermediate_ctc(config: IntermediateCtcConfig, dims: Sequence[int], vocab_size: int) -> IntermediateCtc | None:
    """The heads that a configuration asks for, None where it asks for none; arguments as of `IntermediateCtc`."""
    return IntermediateCtc(config, dims, vocab_size) if config.after else None


def share_problems(config: IntermediateCtcConfig, share: float) -> list[str]:
    """What is wrong with heads and their share of the loss, taken together."""
    if bool(config.after) == (share > 0):
        return []
    return ["loss.intermediate: above 0 it needs intermediate_ctc.after, the places of the heads, and they need it to learn"]
