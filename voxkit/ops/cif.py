"""Continuous integrate-and-fire (Dong & Xu 2020, arXiv 1905.11235): frames with weights → one vector per unit of weight.

Lay the weights of an utterance end to end, so that frame t covers the stretch from c[t-1] to c[t] (the running sum). Token u is whatever
lies between u and u + 1: the average of the frames there, each counted by how much of it lies inside.

    weights   0.4   0.5   0.3   0.9          one frame may hold several boundaries: a weight of 2.5 fires at least twice
    frames  ├─ 0 ─┼── 1 ──┼ 2 ┼─── 3 ───┤
    tokens  ├────── 0 ──────┼──── 1 ────┼─   what is left over is the tail

`cif_reference` is the loop one would write first, `cif` does a batch at once, with the same values and gradients. FunASR's loop differs in
one place: it fires once per frame at most, and pays the debt back with negative weights in the frames after.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.ops.checks import check_shapes
from voxkit.ops.heard import HEARD


class Integrated(NamedTuple):
    """Attributes:
    vectors: [B, U, D], zeros past an item's count.
    mass: [B, U], the weight each token got: 1, less for an unfinished last one, 0 past the count.
    times: [B, U] float32, in frames, where each token ends: frame t spans t to t + 1; an unfinished last one ends with the last frame
        of weight HEARD or more. No gradient. 0 past the count.
    """

    vectors: Tensor
    mass: Tensor
    times: Tensor


def fire_counts(weights: Tensor, tail: float = 0.5) -> Tensor:
    """Tokens per utterance: weights [B, T] (0 in padding) → [B] long. What is left at the end counts as one where it is 1 - `tail` or more
    (0: only whole tokens; 0.5: the rounded sum)."""
    return (weights.detach().double().sum(1) + tail + 1e-9).floor().long()


def cif_reference(frames: Tensor, weights: Tensor, counts: Tensor) -> Integrated:
    """The plain loop; arguments and result as `cif`."""
    size, _, dim = frames.shape
    most = int(counts.max()) if size else 0
    vectors: list[Tensor] = []
    masses: list[Tensor] = []
    times: list[Tensor] = []
    for b in range(size):
        vector, mass = frames.new_zeros(dim), weights.new_zeros(())
        done: list[tuple[Tensor, Tensor, float]] = []
        for t in range(frames.shape[1]):
            left = weights[b, t]  # of this frame, still to be given to tokens
            while mass + left >= 1 and len(done) < counts[b]:
                needed = 1 - mass
                vector = vector + needed * frames[b, t]
                left = left - needed
                done.append((vector, mass + needed, t + 1 - float(left.detach() / weights[b, t].detach())))
                vector, mass = frames.new_zeros(dim), weights.new_zeros(())
            vector, mass = vector + left * frames[b, t], mass + left
        if len(done) < counts[b]:  # the tail: unfinished, or finished but for the last bit of a float
            done.append((vector, mass, max(_last_frame(weights[b]), done[-1][2] if done else 0.0)))
        while len(done) < counts[b]:
            done.append((frames.new_zeros(dim), weights.new_zeros(()), done[-1][2]))
        empty = [(frames.new_zeros(dim), weights.new_zeros(()), 0.0)] * (most - len(done))
        for out, values in zip((vectors, masses, times), zip(*done, *empty)):
            out.append(torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values))
    if not most:
        return Integrated(frames.new_zeros(size, 0, dim), weights.new_zeros(size, 0), torch.zeros(size, 0))
    return Integrated(torch.stack(vectors), torch.stack(masses), torch.stack(times))


def cif(frames: Tensor, weights: Tensor, counts: Tensor) -> Integrated:
    """Integrate and fire, a batch at once.

    The boundaries of frames (running sums) and of tokens (whole numbers) are sorted together. Between two neighbors lies a piece of one
    frame that belongs to one token; its width is its weight, and a token is the weighted sum of its consecutive pieces. Time and memory
    grow with T + U, not with T · U, and no large sums are subtracted from each other.

    Args:
        frames: [B, T, D]; what padding holds does not matter if it is finite.
        weights: [B, T], 0 or more, 0 in padding.
        counts: [B] long, tokens wanted of each utterance (`fire_counts`, or the number known in training). The last one may be unfinished;
            weight beyond the last is left out.

    Returns:
        see Integrated; vectors and mass have the gradients of the loop.

    Raises:
        ValueError: shapes that do not go together.
    """
    check_shapes({"frames": (frames, "BTD"), "weights": (weights, "BT"), "counts": (counts, "B")})
    size, length, dim = frames.shape
    most = int(counts.max()) if size else 0
    if most == 0 or length == 0:
        return Integrated(frames.new_zeros(size, most, dim), weights.new_zeros(size, most), weights.new_zeros(size, most).float())
    ends = weights.double().cumsum(1)  # in float32 a boundary of a long utterance would move by a hundredth of a frame
    marks = torch.arange(1, most + 1, device=ends.device, dtype=ends.dtype).expand(size, -1)
    edges, order = torch.cat([marks, ends], dim=1).sort(dim=1, stable=True)  # at a tie the token ends first, as in the loop
    widths = edges.diff(dim=1, prepend=edges.new_zeros(size, 1))
    is_mark = order < most
    token = is_mark.long().cumsum(1) - is_mark.long()  # marks before a piece: the token it belongs to
    frame = (~is_mark).long().cumsum(1) - (~is_mark).long()
    # A piece in front of a mark that no frame reaches, or of a token that is not wanted, belongs to nobody.
    owned = (frame < length) & (token < counts[:, None])
    widths = widths.masked_fill(~owned, 0.0)
    row = torch.arange(size, device=frames.device)[:, None]
    start = torch.searchsorted(token, torch.arange(most, device=token.device).expand(size, -1).contiguous())
    pieces = (frame.clamp(max=length - 1) + row * length).flatten()
    vectors = F.embedding_bag(pieces, frames.reshape(size * length, dim).float(), (start + row * token.shape[1]).flatten(), mode="sum",
                              per_sample_weights=widths.flatten().float()).view(size, most, dim)
    mass = widths.new_zeros(size, most).scatter_add(1, token.clamp(max=most - 1), widths)
    return Integrated(vectors.to(frames.dtype), mass.to(weights.dtype), _times(ends.detach(), weights.detach(), counts, most))


@torch.no_grad()
def _times(ends: Tensor, weights: Tensor, counts: Tensor, most: int) -> Tensor:
    """Where each token ends, in frames."""
    wanted = torch.arange(1, most + 1, device=ends.device, dtype=ends.dtype).expand(ends.shape[0], -1).contiguous()
    frame = torch.searchsorted(ends, wanted)
    reached, frame = frame < ends.shape[1], frame.clamp(max=ends.shape[1] - 1)
    inside = 1 - (ends.gather(1, frame) - wanted) / weights.double().gather(1, frame).clamp(min=1e-12)
    places = torch.arange(1, ends.shape[1] + 1, device=ends.device)
    last, end = (((weights >= least) & (weights > 0)) * places for least in (HEARD, 0.0))
    last, end = last.amax(1, keepdim=True), end.amax(1, keepdim=True)
    times = torch.where(reached, frame + inside, torch.where(last > 0, last, end).double()).cummax(1).values
    return times.masked_fill(wanted > counts[:, None], 0.0).float()


def _last_frame(weights: Tensor) -> float:
    """Where the last frame ends that is heard; if none is, the last with any weight."""
    for heard in ((weights >= HEARD).nonzero(), (weights > 0).nonzero()):
        if len(heard):
            return float(heard[-1] + 1)
    return 0.0
