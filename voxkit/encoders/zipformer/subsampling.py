"""Zipformer's convolutional front end: fbank at 100 frames/s → vectors at 50 frames/s."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask
from voxkit.nn.balance import Balancer, Whiten
from voxkit.nn.scaling import BiasNorm, SharedDropout, scale_gradient
from voxkit.nn.scheduled import Scheduled, ScheduledFloat
from voxkit.nn.swoosh import scaled_init, swoosh

CHANNELS = (8, 32, 128)


class ConvNeXt(Scheduled):
    """A ConvNeXt block (Liu et al. 2022, arXiv 2201.03545): 7 × 7 depthwise convolution, pointwise ones, around them a residual.

    Args:
        channels: width.
    """

    def __init__(self, channels: int, ratio: int = 3, kernel: int = 7) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.depthwise = nn.Conv2d(channels, channels, kernel, groups=channels, padding=(0, self.reach))
        self.pointwise1 = nn.Conv2d(channels, channels * ratio, 1)
        self.pointwise2 = scaled_init(nn.Conv2d(channels * ratio, channels, 1), 0.01)
        self.skip_rate = ScheduledFloat((0, 0.2), (20000, 0.015), default=0.0)
        self.balancer_hidden = Balancer(dim=-3, min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.balancer_out = Balancer(dim=-3, min_positive=0.4, max_positive=0.6, min_abs=1.0, max_abs=6.0)
        self.whiten = Whiten(5.0)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, C, T, F] → the same shape; context [B, C, T + 6, F]: x with the three frames before and after it."""
        y = _pointwise(swoosh(self.balancer_hidden(_pointwise(self.depthwise(context), self.pointwise1)), "L"), self.pointwise2)
        rate = self.at(self.skip_rate) if self.training else 0.0
        if rate > 0:
            y = y * (torch.rand(y.shape[0], 1, 1, 1, device=y.device) > rate).to(y.dtype)
        x = self.balancer_out(x + y)
        return self.whiten(x.transpose(1, 3)).transpose(1, 3)


def _pointwise(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """A 1 × 1 convolution as a matrix product, which is faster (on CPUs much)."""
    if torch.compiler.is_exporting():
        return layer(x)
    return (torch.matmul(layer.weight[:, :, 0, 0], x.flatten(2)) + layer.bias[:, None]).unflatten(2, x.shape[2:])


class ConvSubsampling(nn.Module):
    """Three convolutions that halve the frame rate, a ConvNeXt block, a projection.

    Args:
        input_dim: mel bins, at least 7.
        output_dim: width out.
        isolate_padding: see ZipformerConfig.

    Attributes:
        lookahead: feature frames that `stream` needs beyond those that it turns into output.
    """

    lookahead = 13

    def __init__(self, input_dim: int, output_dim: int, dropout: float = 0.1, isolate_padding: bool = True) -> None:
        super().__init__()
        if input_dim < 7:
            raise ValueError(f"the convolutional front end needs at least 7 mel bins, not {input_dim}")
        one, two, three = CHANNELS
        self.input_dim, self.output_dim, self.isolate_padding = input_dim, output_dim, isolate_padding
        self.bins = ((input_dim - 1) // 2 - 1) // 2
        self.conv1 = nn.Conv2d(1, one, 3, padding=(0, 1))
        self.conv2 = nn.Conv2d(one, two, 3, stride=2)
        self.conv3 = nn.Conv2d(two, three, 3, stride=(1, 2))
        self.convnext = ConvNeXt(three)
        self.out = nn.Linear(self.bins * three, output_dim)
        self.norm = BiasNorm(output_dim)
        self.balancer1, self.balancer2, self.balancer3 = (Balancer(dim=-3, max_abs=limit) for limit in (1.0, 4.0, 4.0))
        self.whiten = Whiten(ScheduledFloat((0, 4.0), (20000, 8.0), default=4.0), scale=0.02)
        self.dropout = SharedDropout(dropout)

    @staticmethod
    def output_lengths(lengths: Tensor) -> Tensor:
        """Frames out for frames in."""
        return (lengths - 7) // 2

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, F] at 100 frames/s, lengths [B] → [B, (T - 7) // 2, D] at 50 frames/s, lengths [B].

        Raises:
            ValueError: features too short for a single frame out.
        """
        if x.shape[1] < 9:
            raise ValueError(f"the convolutional front end needs at least 9 feature frames (90 ms), not {x.shape[1]}")
        lengths = self.output_lengths(lengths).clamp(min=0)
        x = self._convolve(x)
        if self.isolate_padding and (torch.compiler.is_exporting() or bool((lengths < x.shape[2]).any())):
            x = x.masked_fill(~lengths_to_mask(lengths, x.shape[2])[:, None, :, None], 0.0)
        reach = self.convnext.reach
        return self._project(self.convnext(x, F.pad(x, (0, 0, reach, reach)))), lengths

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first chunk: the three frames before it, within [B, 128, 3, F']."""
        return (torch.zeros(batch_size, CHANNELS[-1], self.convnext.reach, self.bins, device=device, dtype=self.out.weight.dtype),)

    def stream(self, x: Tensor, state: tuple[Tensor, ...], *, final: bool = False,
               lengths: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next chunk: [B, 2 n + 13, F] → [B, n, D] and the state after it; the caller goes on 2 n frames later.

        Args:
            final: x ends where the utterance ends: [B, T, F] → [B, (T - 7) // 2, D].
            lengths: [B] frames of each row; one with fewer than all ends there, and its last vectors are those of a final chunk.
        """
        (before,) = state
        x = self._convolve(x)
        if lengths is not None:
            x = x.masked_fill(~lengths_to_mask(self.output_lengths(lengths), x.shape[2])[:, None, :, None], 0.0)
        reach = self.convnext.reach
        context = F.pad(torch.cat((before, x), dim=2), (0, 0, 0, reach if final else 0))
        size = context.shape[2] - 2 * reach
        if size < 1:
            raise ValueError(f"the convolutional front end streams {self.lookahead + 2} feature frames or more at a time")
        return self._project(self.convnext(x[:, :, :size], context)), (context[:, :, size:size + reach],)

    def _convolve(self, x: Tensor) -> Tensor:
        """[B, T, F] → [B, 128, (T - 7) // 2, F']."""
        x = scale_gradient(self.conv1(x[:, None]), 0.2)
        x = swoosh(self.balancer1(x), "R")
        x = swoosh(self.balancer2(self.conv2(x)), "R")
        return swoosh(self.balancer3(self.conv3(x)), "R")

    def _project(self, x: Tensor) -> Tensor:
        """[B, C, T, F'] → [B, T, D]."""
        return self.dropout(self.norm(self.whiten(self.out(x.transpose(1, 2).flatten(2)))))
