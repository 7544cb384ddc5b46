"""The CIF predictor of Paraformer (Gao et al. 2022, arXiv 2206.08317): encoder states → a weight per frame → one vector per token.

In training the number of tokens is known, and the weights of an utterance are scaled to sum to it; the sum before scaling is held to
that number by the quantity loss. In use the sum itself says how many tokens there are. Scaled as a whole, an utterance whose predictor
missed a token early on has a wrong vector for every token from there to its end. Where the boundaries of the tokens are known in training
too, each token is scaled by itself, and its vector is of its own frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_lengths, check_shapes
from voxkit.ops.cif import cif, fire_counts
from voxkit.ops.cif_boundaries import Boundaries, scale_to_boundaries
from voxkit.ops.heard import HEARD


@dataclass
class CifConfig:
    """Attributes:
    kernel: frames that a weight depends on, odd; half of it is what streaming waits for.
    dropout: between convolution and weight, in training.
    tail: what is left at an utterance's end counts as a token where it is 1 - tail or more.
    start_rate: mean weight of a frame before training: tokens per frame, roughly.
    """

    kernel: int = 3
    dropout: float = 0.1
    tail: float = 0.5
    start_rate: float = 0.2

    def problems(self) -> list[str]:
        found = []
        if self.kernel < 1 or self.kernel % 2 == 0:
            found.append(f"kernel: {self.kernel} is not odd, so that no frame would be in its middle")
        if not 0 <= self.tail < 1:
            found.append(f"tail: {self.tail} is not in [0, 1)")
        if not 0 < self.start_rate < 1:
            found.append(f"start_rate: {self.start_rate} is not between 0 and 1")
        return found


@dataclass
class CifOutput:
    """What the predictor found.

    Attributes:
        vectors: [B, U, D], one per token.
        lengths: [B] tokens.
        quantity: [B] sum of the weights before scaling: the number of tokens it believes in; differentiable.
        weights: [B, T] as used (scaled in training), 0 in padding; unscaled: [B, T] as predicted.
        times: [B, U] float32, frames from the beginning, where each token ends.
    """

    vectors: Tensor
    lengths: Tensor
    quantity: Tensor
    weights: Tensor
    unscaled: Tensor
    times: Tensor


@dataclass
class CifState:
    """Between two chunks of a stream.

    Attributes:
        context: [B, C, D] the last frames, which the next weights still depend on (the last kernel // 2 have no weight yet).
        mass: [B] weight gathered for the token that has begun; vector: [B, D] its weighted sum.
        heard: [B] frames, where the last frame of weight HEARD or more ends, or the last token if that is later.
        position: frames that have their weight.
    """

    context: Tensor
    mass: Tensor
    vector: Tensor
    heard: Tensor
    position: int = 0


class CifPredictor(nn.Module):
    """Convolution → GELU → linear → sigmoid gives the weights, CIF the vectors.

    Args:
        dim: width of the states and of the vectors.
        config: see CifConfig.
    """

    def __init__(self, dim: int, config: CifConfig | None = None) -> None:
        super().__init__()
        self.config = config or CifConfig()
        self.half = self.config.kernel // 2
        self.conv = nn.Conv1d(dim, dim, self.config.kernel)
        self.dropout = nn.Dropout(self.config.dropout)
        self.weight = nn.Linear(dim, 1)
        rate = self.config.start_rate
        nn.init.constant_(self.weight.bias, math.log(rate / (1 - rate)))

    def frame_weights(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states [B, T, D] → weights in (0, 1) [B, T] float32, 0 in padding. Frames past an end count as zeros."""
        mask = lengths_to_mask(lengths, states.shape[1])
        x = F.pad(states.masked_fill(~mask[..., None], 0.0), (0, 0, self.half, self.half))
        return self._weights(x).masked_fill(~mask, 0.0)

    def forward(self, states: Tensor, lengths: Tensor, targets: Tensor | None = None, boundaries: Boundaries | None = None) -> CifOutput:
        """Find the tokens.

        Args:
            states: [B, T, D]; lengths: [B].
            targets: [B] the known numbers of tokens, in training; None = the weights decide.
            boundaries: with targets, where these tokens end; None = the weights decide.
        """
        check_shapes({"states": (states, "BTD"), "lengths": (lengths, "B"), "targets": (lengths if targets is None else targets, "B")},
                     D=self.conv.in_channels)
        check_lengths(lengths, states.shape[1])
        weights = unscaled = self.frame_weights(states, lengths)
        quantity = weights.sum(1)
        if targets is None:
            counts = fire_counts(weights, self.config.tail)
        else:
            counts = targets
            if boundaries is None:
                weights = weights * (targets / quantity.clamp(min=1e-4))[:, None]
            else:
                weights = scale_to_boundaries(weights, boundaries, targets)
        vectors, mass, times = cif(states, weights, counts)
        if targets is None:
            vectors = _filled_up(vectors, mass)
        return CifOutput(vectors, counts, quantity, weights, unscaled, times)

    def init_state(self, size: int, device: torch.device | str = "cpu") -> CifState:
        """Before the first frame of `size` streams that run in step."""
        dim = self.conv.in_channels
        zeros = torch.zeros(size, dim, device=device)
        return CifState(zeros[:, None].expand(-1, self.half, -1), zeros[:, 0], zeros, zeros[:, 0])

    def stream(self, x: Tensor, state: CifState, last: bool = False) -> tuple[CifOutput, CifState]:
        """The next frames [B, n, D] of every stream → the tokens that they finish, and the state after them.

        Weights lag by kernel // 2 frames. `last` ends the utterances: what is left may become a token. All chunks together give what
        `forward` gives for the whole (in eval mode).
        """
        check_shapes({"state.vector": (state.vector, "BD"), "x": (x, "BND")}, D=self.conv.in_channels)
        x = torch.cat([state.context, x], dim=1)
        context = x[:, max(0, x.shape[1] - 2 * self.half):]
        if last:
            x = F.pad(x, (0, 0, 0, self.half))
        ready = x.shape[1] - 2 * self.half
        if ready <= 0:
            weights, frames = x.new_zeros(x.shape[0], 0), x[:, :0]
            context = x
        else:
            weights, frames = self._weights(x), x[:, self.half:self.half + ready]
        # the unfinished token goes in front, as a frame that holds all of it
        begun = state.vector / state.mass.clamp(min=1e-6)[:, None]
        frames, weights = torch.cat([begun[:, None], frames], dim=1), torch.cat([state.mass[:, None], weights], dim=1)
        whole = fire_counts(weights, 0.0)
        counts = fire_counts(weights, self.config.tail) if last else whole + 1  # one more: what remains
        vectors, mass, times = cif(frames, weights, counts)
        times = times + (state.position - 1)
        quantity = weights.sum(1) - state.mass
        places = torch.arange(1, weights.shape[1], device=x.device) + state.position
        heard = torch.cat([state.heard[:, None], (weights[:, 1:] >= HEARD) * places], dim=1).amax(1)
        if whole.any():  # a token may end after the last frame that is heard
            heard = torch.maximum(heard, (times * lengths_to_mask(whole, times.shape[1])).amax(1))
        if last:
            end = torch.where(heard > 0, heard, heard.new_tensor(state.position + ready))
            unfinished = (torch.arange(times.shape[1], device=x.device) == counts[:, None] - 1) & (counts > whole)[:, None]
            times = torch.where(unfinished, end[:, None], times)
            out = CifOutput(_filled_up(vectors, mass), counts, quantity, weights[:, 1:], weights[:, 1:], times)
            return out, self.init_state(x.shape[0], x.device)
        at = whole[:, None]
        after = CifState(context, mass.gather(1, at)[:, 0], vectors.gather(1, at[..., None].expand(-1, -1, vectors.shape[-1]))[:, 0],
                         heard, state.position + max(ready, 0))
        kept = lengths_to_mask(whole, max(int(whole.max()), 0))
        vectors, times = vectors[:, :kept.shape[1]] * kept[..., None], times[:, :kept.shape[1]] * kept
        return CifOutput(vectors, whole, quantity, weights[:, 1:], weights[:, 1:], times), after

    def _weights(self, x: Tensor) -> Tensor:
        """[B, T + kernel - 1, D] → [B, T] float32."""
        y = F.gelu(self.conv(x.transpose(1, 2)).transpose(1, 2))
        return self.weight(self.dropout(y))[..., 0].float().sigmoid()


def _filled_up(vectors: Tensor, mass: Tensor) -> Tensor:
    """An unfinished last token, scaled as if its weight were 1: in training every token has that."""
    return vectors / mass.clamp(min=1e-3)[..., None].to(vectors.dtype)
