"""One Zipformer layer (Yao et al. 2023, arXiv 2310.11230, figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.encoders.zipformer.attention import AttentionWeights, NonlinearAttention, SelfAttention, whitening_schedule
from voxkit.nn.balance import Balancer, Whiten
from voxkit.nn.chunk_conv import ChunkCausalDepthwiseConv
from voxkit.nn.depthwise import depthwise
from voxkit.nn.scaling import BiasNorm, limit_parameter
from voxkit.nn.scheduled import FloatLike, Scheduled, ScheduledFloat, chance
from voxkit.nn.swoosh import SwooshLinear


@dataclass
class View:
    """What all layers of a stack see alike in one pass, at the stack's frame rate.

    Attributes:
        positions: [S + T - 1, pos_dim].
        blocked: broadcastable to [B, T, S], True where a query may not look; None = it may look everywhere.
        padding: [B, T, 1], True in padding; None = there is none.
        chunk: frames per chunk of the convolution, -1 = all.
        lengths: [B], where the last chunk of each sequence ends if chunk is -1; None = at T.
    """

    positions: Tensor
    blocked: Tensor | None = None
    padding: Tensor | None = None
    chunk: int = -1
    lengths: Tensor | None = None


class FeedForward(nn.Module):
    """Linear, SwooshL, dropout, linear."""

    def __init__(self, dim: int, hidden: int, dropout: FloatLike) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, hidden)
        self.balancer = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.out_proj = SwooshLinear(hidden, dim, "L", dropout, initial_scale=0.1)
        self.whiten = Whiten(whitening_schedule(7.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.whiten(self.out_proj(self.balancer(self.in_proj(x))))


class Convolution(nn.Module):
    """Gated linear unit, depthwise convolution, SwooshR, linear."""

    def __init__(self, dim: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * dim)
        # keeps what goes into the gate's sigmoid within reach
        self.balancer_gate = Balancer(min_positive=ScheduledFloat((0, 0.05), (8000, 0.025), default=0.0), max_positive=1.0, min_abs=1.5,
                                      max_abs=ScheduledFloat((0, 5.0), (8000, 10.0), default=1.0), channels=(dim, 2 * dim))
        if causal:
            self.depthwise: nn.Module = ChunkCausalDepthwiseConv(dim, kernel)
        else:
            self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim, padding=kernel // 2)
        self.causal, self.kernel = causal, kernel
        self.balancer = Balancer(min_positive=ScheduledFloat((0, 0.1), (8000, 0.05), default=0.0), max_positive=1.0,
                                 min_abs=ScheduledFloat((0, 0.2), (20000, 0.5), default=0.0), max_abs=10.0)
        self.whiten = Whiten(whitening_schedule(7.5))
        self.out_proj = SwooshLinear(dim, dim, "R", initial_scale=0.05)

    def forward(self, x: Tensor, view: View, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x [B, T, D], cache [B, D, kernel // 2] → [B, T, D] and the next cache."""
        x = F.glu(self.balancer_gate(self.in_proj(x)))
        if view.padding is not None:
            x = x.masked_fill(view.padding, 0.0)
        x = x.transpose(1, 2)
        if self.causal:
            x, after = self.depthwise(x, view.chunk, cache, view.lengths)
            cache = None if cache is None else after
        else:
            x = depthwise(x, self.depthwise.weight, self.depthwise.bias, self.kernel // 2)
        return self.out_proj(self.whiten(self.balancer(x.transpose(1, 2)))), cache


class Bypass(Scheduled):
    """A learned mixture per channel of a module's input and output: input + (output - input) · scale.

    Early in training the scale is kept near 1, so that every layer has to learn; `skip_rate` skips layers for whole sequences.
    """

    def __init__(self, dim: int, skip_rate: FloatLike = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), 0.5))
        self.skip_rate = skip_rate
        self.scale_min = ScheduledFloat((0, 0.9), (20000, 0.2), default=0.0)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Both [B, T, D]."""
        scale = self.scale
        if self.training:
            scale = limit_parameter(scale, self.at(self.scale_min), 1.0)
            rate = self.at(self.skip_rate)
            if rate > 0:
                scale = scale * (torch.rand(before.shape[0], 1, 1, device=before.device) > rate)
        return torch.lerp(before, after.to(before.dtype), scale.to(before.dtype))


class ZipformerLayer(Scheduled):
    """Attention weights used three times, three feed-forward modules, two convolutions, a bypass in the middle and one at the end.

    Args:
        dim, pos_dim, num_heads, query_head_dim, pos_head_dim, value_head_dim, feedforward_dim, kernel, causal: see ZipformerConfig.
        dropout: of the feed-forward modules.
        skip_rate: of the whole layer, per sequence.
    """

    def __init__(self, *, dim: int, pos_dim: int, num_heads: int, query_head_dim: int, pos_head_dim: int, value_head_dim: int,
                 feedforward_dim: int, kernel: int, causal: bool, dropout: FloatLike, skip_rate: FloatLike) -> None:
        super().__init__()
        self.attention_weights = AttentionWeights(dim, pos_dim, num_heads, query_head_dim, pos_head_dim)
        self.attention1 = SelfAttention(dim, num_heads, value_head_dim)
        self.attention2 = SelfAttention(dim, num_heads, value_head_dim)
        self.nonlinear_attention = NonlinearAttention(dim, 3 * dim // 4)
        self.feed_forward1 = FeedForward(dim, feedforward_dim * 3 // 4, dropout)
        self.feed_forward2 = FeedForward(dim, feedforward_dim, dropout)
        self.feed_forward3 = FeedForward(dim, feedforward_dim * 5 // 4, dropout)
        self.convolution1 = Convolution(dim, kernel, causal)
        self.convolution2 = Convolution(dim, kernel, causal)
        self.bypass_mid = Bypass(dim)
        self.bypass = Bypass(dim, skip_rate)
        self.norm = BiasNorm(dim)
        # The published networks have this parameter and never use it; here so that sizes and checkpoints are theirs.
        self.unused_scale = nn.Parameter(torch.full((dim,), 0.5))

        self.balancer_norm = Balancer(min_positive=0.45, max_positive=0.55, min_abs=0.2, max_abs=4.0)
        self.balancer_out = Balancer(min_positive=0.45, max_positive=0.55, min_abs=0.1, max_abs=4.0)
        self.balancer_nonlinear = Balancer(min_positive=0.3, max_positive=0.7, prob=0.05,
                                           min_abs=ScheduledFloat((0, 0.004), (4000, 0.02), default=0.0))
        self.balancer_ff2 = Balancer(min_positive=0.3, max_positive=0.7, max_abs=2.0, prob=0.05,
                                     min_abs=ScheduledFloat((0, 0.0), (4000, 0.1), default=0.0))
        self.balancer_ff3 = Balancer(min_positive=0.3, max_positive=0.7, max_abs=4.0, prob=0.05,
                                     min_abs=ScheduledFloat((0, 0.0), (4000, 0.2), default=0.0))
        self.whiten = Whiten(whitening_schedule(4.0, ratio=3.0))
        self.attention_skip_rate = ScheduledFloat((0, 0.2), (4000, 0.05), (16000, 0.0), default=0.0)
        self.conv_skip_rate = ScheduledFloat((0, 0.2), (4000, 0.05), (16000, 0.0), default=0.0)
        self.ff_skip_rate = ScheduledFloat((0, 0.1), (4000, 0.01), (50000, 0.0), default=0.0)
        self.const_attention_rate = ScheduledFloat((0, 0.25), (4000, 0.025), default=0.0)

    def forward(self, x: Tensor, view: View, cache: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor] | None]:
        """x [B, T, D] → [B, T, D].

        Args:
            cache: in streaming, what the layer kept of the frames before x (`empty_cache`).
        """
        before = x
        keys, gated, values1, values2, conv1, conv2 = cache if cache is not None else [None] * 6
        attention_keep, conv_rate, ff_rate = None, 0.0, 0.0
        if self.training:
            attention_keep = self._keep(x, self.at(self.attention_skip_rate))
            conv_rate, ff_rate = self.at(self.conv_skip_rate), self.at(self.ff_skip_rate)

        weights, keys = self.attention_weights(x, view.positions, view.blocked, keys)
        x = x + self.feed_forward1(x)
        first = weights[0]
        if self.training and chance(self.at(self.const_attention_rate)):  # plain averaging over what is seen
            first = (first > 0).to(first.dtype)
            first = first / first.sum(-1, keepdim=True)
        y, gated = self.nonlinear_attention(x, first, gated)
        x = _add(x, self.balancer_nonlinear(y), attention_keep)
        y, values1 = self.attention1(x, weights, values1)
        x = _add(x, y, attention_keep)
        y, conv1 = self.convolution1(x, view, conv1)
        x = _add(x, y, self._keep(x, conv_rate))
        x = _add(x, self.balancer_ff2(self.feed_forward2(x)), self._keep(x, ff_rate))
        x = self.bypass_mid(before, x)
        y, values2 = self.attention2(x, weights, values2)
        x = _add(x, y, attention_keep)
        y, conv2 = self.convolution2(x, view, conv2)
        x = _add(x, y, self._keep(x, conv_rate))
        x = _add(x, self.balancer_ff3(self.feed_forward3(x)), self._keep(x, ff_rate))
        x = self.norm(self.balancer_norm(x))
        x = self.whiten(self.balancer_out(self.bypass(before, x)))
        return x, (None if cache is None else [keys, gated, values1, values2, conv1, conv2])

    def _keep(self, x: Tensor, rate: float) -> Tensor | None:
        """[B, 1, 1], 0 for sequences in which a module is skipped; None = all are kept."""
        return (torch.rand(x.shape[0], 1, 1, device=x.device) > rate).to(x.dtype) if rate > 0 else None

    def empty_cache(self, batch_size: int, left: int, device: torch.device | str | None = None) -> list[Tensor]:
        """State before the first frame: keys, gated frames, values (twice) [B, left, width], convolution inputs (twice) [B, D, K // 2]."""
        w = self.attention_weights
        dim = self.norm.bias.shape[0]
        values = self.attention1.in_proj.out_features
        hidden = self.nonlinear_attention.out_proj.in_features
        kernel = self.convolution1.kernel
        shapes = [(left, w.heads * w.query_dim), (left, hidden), (left, values), (left, values), (dim, kernel // 2), (dim, kernel // 2)]
        return [torch.zeros(batch_size, *shape, device=device, dtype=self.norm.bias.dtype) for shape in shapes]


def _add(x: Tensor, y: Tensor, keep: Tensor | None) -> Tensor:
    return x + y if keep is None else torch.addcmul(x, y.to(x.dtype), keep)
