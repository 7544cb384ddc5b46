"""Zipformer's attention: weights computed once per layer and used three times (Yao et al. 2023, arXiv 2310.11230, section 2.2)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.nn.balance import Balancer, Whiten
from voxkit.nn.scheduled import Scheduled, ScheduledFloat, chance
from voxkit.nn.swoosh import scaled_init

BLOCKED = -1000.0  # score of a frame that may not be attended to: exp() of it is exactly zero
SCORE_LIMIT = 25.0


def whitening_schedule(limit: float, ratio: float = 2.0) -> ScheduledFloat:
    """A whitening limit that grows by `ratio` over the first 20000 steps."""
    return ScheduledFloat((0, limit), (20000, ratio * limit), default=limit)


class CompactPositions(nn.Module):
    """Relative positions as Fourier features of an angle that a distance is squeezed into, finely near 0 and coarsely far away.

    Args:
        dim: even.
        length: distances up to it are kept in a table (which grows where needed).
    """

    def __init__(self, dim: int, length: int = 1000) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", self._compute(length), persistent=False)

    def _compute(self, length: int) -> Tensor:
        """[2 length - 1, dim] for distances -(length - 1) ... length - 1."""
        device = self.table.device if hasattr(self, "table") else None
        offset = torch.arange(-(length - 1), length, dtype=torch.float32, device=device)[:, None]
        frequencies = 1 + torch.arange(self.dim // 2, device=device)
        stretch = self.dim ** 0.5
        squeezed = stretch * offset.sign() * ((offset.abs() + stretch).log() - math.log(stretch))
        angle = (squeezed / (self.dim / (2 * math.pi))).atan()
        table = torch.stack(((angle * frequencies).cos(), (angle * frequencies).sin()), dim=-1).flatten(1)
        table[:, -1] = 1.0  # a bias
        return table

    def forward(self, size: int, left: int = 0) -> Tensor:
        """Positions of `left + size` keys as `size` queries see them: [left + 2 size - 1, dim], distances from -(left + size - 1) up."""
        if torch.compiler.is_exporting():  # any length
            return self._compute(left + size)[:left + 2 * size - 1].to(self.table)
        if left + size > (self.table.shape[0] + 1) // 2:
            self.table = self._compute(2 * (left + size)).to(self.table)
        center = self.table.shape[0] // 2
        return self.table[center - (left + size - 1):center + size]


def relative_to_absolute(x: Tensor, keys: int) -> Tensor:
    """[..., T, keys + T - 1] by relative position → [..., T, keys]: entry (t, s) is x[t, T - 1 - t + s]. A view, but in exports."""
    size, width = x.shape[-2:]
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        index = torch.arange(size - 1, -1, -1, device=x.device)[:, None] + torch.arange(keys, device=x.device)
        return x.gather(-1, index.expand(*x.shape[:-1], keys))
    x = x.contiguous()
    return x.as_strided((*x.shape[:-1], keys), (*x.stride()[:-2], width - 1, 1), x.storage_offset() + size - 1)


class _MaskedSoftmax(torch.autograd.Function):
    """softmax over scores that are blocked in place; one tensor is kept. With `penalize`, scores beyond ± 25 get a gradient towards 0,
    a tenth of the gradient's rms in size (so that it does not depend on how the loss is scaled)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, blocked: Tensor | None, penalize: bool) -> Tensor:
        over = None
        if penalize and scores.abs().max() > SCORE_LIMIT:
            over = (scores.sign() * (scores.abs() > SCORE_LIMIT)).to(torch.int8)
        if blocked is not None:
            scores = scores.masked_fill(blocked, BLOCKED)
        weights = scores.softmax(-1)
        ctx.save_for_backward(weights, over)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, over = ctx.saved_tensors
        out = torch._softmax_backward_data(grad, weights, -1, weights.dtype)
        if over is not None:
            out = out + over * (0.1 * out.float().square().mean().sqrt()).to(out.dtype)
        return out, None, None


class AttentionWeights(Scheduled):
    """Multi-head attention weights with relative positions.

    Args:
        dim: width of the input; pos_dim: of the positional encoding.
        heads, query_dim, pos_head_dim: number of heads, and widths per head.
    """

    def __init__(self, dim: int, pos_dim: int, heads: int, query_dim: int, pos_head_dim: int) -> None:
        super().__init__()
        self.heads, self.query_dim, self.pos_head_dim = heads, query_dim, pos_head_dim
        # the usual 1 / sqrt(query_dim) on the scores is in the start values
        self.in_proj = scaled_init(nn.Linear(dim, (2 * query_dim + pos_head_dim) * heads), query_dim ** -0.25)
        self.linear_pos = scaled_init(nn.Linear(pos_dim, heads * pos_head_dim, bias=False), 0.05)
        self.pos_skip_rate = ScheduledFloat((0, 0.5), (4000, 0.0), default=0.0)
        self.whiten_keys = Whiten(whitening_schedule(3.0), groups=heads, scale=0.025)
        # a constant added to all keys changes nothing, but would drift
        self.balance_keys = Balancer(min_positive=0.4, max_positive=0.6, min_abs=0.0, max_abs=100.0, prob=0.025)

    def forward(self, x: Tensor, positions: Tensor, blocked: Tensor | None, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Args:
            x: [B, T, D].
            positions: [S + T - 1, pos_dim], S keys as T queries see them.
            blocked: broadcastable to [B, T, S], True where a query may *not* look (the complement of a mask, taken once for all layers).
            cache: keys of the frames before x, [B, L, heads · query_dim]; S = L + T.

        Returns:
            weights [H, B, T, S], and the cache for the next chunk where there was one.
        """
        batch, size, _ = x.shape
        heads = self.heads
        q, k, p = self.in_proj(x).split((self.query_dim * heads, self.query_dim * heads, self.pos_head_dim * heads), dim=-1)
        k = self.whiten_keys(self.balance_keys(k))
        if cache is not None:
            k = torch.cat((cache, k), dim=1)
            cache = k[:, size:]
        keys = k.shape[1]
        q = q.reshape(batch, size, heads, -1).permute(2, 0, 1, 3).reshape(heads * batch, size, -1)
        k = k.reshape(batch, keys, heads, -1).permute(2, 0, 3, 1).reshape(heads * batch, -1, keys)
        if self.training and chance(self.at(self.pos_skip_rate)):
            scores = torch.bmm(q, k)
        else:
            p = p.reshape(batch, size, heads, -1).permute(2, 0, 1, 3).reshape(heads, batch * size, -1)
            r = self.linear_pos(positions).view(-1, heads, self.pos_head_dim).permute(1, 2, 0)
            by_distance = torch.bmm(p, r).view(heads * batch, size, -1)
            scores = torch.baddbmm(relative_to_absolute(by_distance, keys), q, k)
        scores = scores.view(heads, batch, size, keys)
        if torch.is_grad_enabled() and scores.requires_grad:
            weights = _MaskedSoftmax.apply(scores, blocked, self.training and chance(0.1))
        else:
            weights = (scores if blocked is None else scores.masked_fill(blocked, BLOCKED)).softmax(-1)
        return weights, cache


class SelfAttention(nn.Module):
    """Values under weights that were computed before.

    Args:
        dim: width of input and output; heads, value_dim: number of heads and their width.
    """

    def __init__(self, dim: int, heads: int, value_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, heads * value_dim)
        self.out_proj = scaled_init(nn.Linear(heads * value_dim, dim), 0.05)
        self.whiten = Whiten(whitening_schedule(7.5, ratio=3.0))

    def forward(self, x: Tensor, weights: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], weights [H, B, T, S], cache: values before x [B, S - T, H · value_dim] → [B, T, D] and the next cache."""
        batch, size, _ = x.shape
        v = self.in_proj(x)
        if cache is not None:
            v = torch.cat((cache, v), dim=1)
            cache = v[:, size:]
        v = v.view(batch, v.shape[1], weights.shape[0], -1).permute(2, 0, 1, 3)
        out = torch.matmul(weights.to(v.dtype), v).permute(1, 2, 0, 3).reshape(batch, size, -1)
        return self.whiten(self.out_proj(out)), cache


class NonlinearAttention(nn.Module):
    """Gated averaging over time under the weights of the first head: tanh(s) ⊙ x is averaged, then multiplied by y.

    Args:
        dim: width of input and output; hidden: of what is averaged.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 3 * hidden)
        self.out_proj = scaled_init(nn.Linear(hidden, dim), 0.05)
        # large values before the tanh: well trained modules have them, badly trained ones do not
        self.balancer = Balancer(min_positive=ScheduledFloat((0, 0.25), (20000, 0.05), default=0.0), min_abs=0.5, max_abs=5.0,
                                 max_positive=ScheduledFloat((0, 0.75), (20000, 0.95), default=0.0))
        self.whiten_in = Whiten(whitening_schedule(5.0))
        self.whiten_out = Whiten(whitening_schedule(5.0, ratio=3.0))

    def forward(self, x: Tensor, weights: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], weights [B, T, S], cache: gated frames before x [B, S - T, hidden] → [B, T, D] and the next cache."""
        size = x.shape[1]
        s, x, y = self.in_proj(x).chunk(3, dim=-1)
        x = self.whiten_in(x) * self.balancer(s).tanh()
        if cache is not None:
            x = torch.cat((cache, x), dim=1)
            cache = x[:, size:]
        return self.whiten_out(self.out_proj(torch.bmm(weights.to(x.dtype), x) * y)), cache
