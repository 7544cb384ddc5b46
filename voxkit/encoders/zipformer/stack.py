"""A stack of Zipformer layers at its own frame rate: downsample, layers, upsample, bypass."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxkit.encoders.zipformer.config import ZipformerConfig
from voxkit.encoders.zipformer.layer import Bypass, View, ZipformerLayer
from voxkit.nn.scheduled import ScheduledFloat


class Downsample(nn.Module):
    """Every `factor` frames become one, their mean under learned weights; the last frame is repeated to fill a group.

    Args:
        factor: 1 or more.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T, D] → [B, ceil(T / factor), D].

        Args:
            lengths: [B]; the last frame before a length is the one that is repeated. None = the last of all.
        """
        factor, size = self.factor, x.shape[1]
        weights = self.bias.softmax(0).to(x.dtype)
        count = (size + factor - 1) // factor
        if torch.compiler.is_exporting():  # a graph must do for every size
            x = x.index_select(1, torch.arange(count * factor, device=x.device).clamp(max=size - 1))
        elif count * factor != size:
            x = torch.cat((x, x[:, -1:].expand(-1, count * factor - size, -1)), dim=1)
        x = x.unflatten(1, (count, factor))
        if lengths is None:
            return torch.einsum("btfd,f->btd", x, weights) if factor > 2 else torch.lerp(x[:, :, 0], x[:, :, -1], weights[-1])
        # what a group weighs its frames with where 1 ... factor of them are there: the last one takes what is left
        table = torch.stack([torch.cat((weights[:n - 1], weights[n - 1:].sum(0, keepdim=True), weights.new_zeros(factor - n)))
                             for n in range(1, factor + 1)])
        there = lengths[:, None] - factor * torch.arange(count, device=x.device)
        weights = table[there.clamp(1, factor) - 1][..., None]  # [B, T', factor, 1]
        out = x[:, :, 0] * weights[:, :, 0]
        for i in range(1, factor):
            out = torch.addcmul(out, x[:, :, i], weights[:, :, i])
        return out


def upsample(x: Tensor, factor: int, size: int) -> Tensor:
    """[B, T, D] → [B, size, D], each frame `factor` times."""
    if torch.compiler.is_exporting():
        return x.index_select(1, torch.arange(size, device=x.device) // factor)
    batch, count, dim = x.shape
    return x[:, :, None].expand(batch, count, factor, dim).reshape(batch, count * factor, dim)[:, :size]


class ZipformerStack(nn.Module):
    """Layers of one width and frame rate.

    Args:
        config: of the whole network; index: which stack.
    """

    def __init__(self, config: ZipformerConfig, index: int) -> None:
        super().__init__()
        options = config.stack(index)
        self.factor = config.downsampling_factor[index]
        self.dim, self.unmasked_dim = options["encoder_dim"], options["unmasked_dim"]
        self.checkpointing = config.checkpointing
        begin, end = (config.warmup_batches * (index + n) / (config.num_stacks + 1) for n in (1, 2))
        count = options["num_layers"]
        edges = [begin + (end - begin) * i / count for i in range(count + 1)]
        last_skip_rate = 0.035 * self.factor ** 0.5
        dropout = ScheduledFloat((0, config.initial_dropout), (config.dropout_batches, config.dropout))
        self.layers = nn.ModuleList(
            ZipformerLayer(
                dim=self.dim, pos_dim=config.pos_dim, causal=config.causal, dropout=dropout,
                skip_rate=ScheduledFloat((edges[i], 0.5), (max(edges[i + 1], edges[i] + 1e-3), last_skip_rate), default=0.0),
                **{k: options[k] for k in ("num_heads", "query_head_dim", "pos_head_dim", "value_head_dim", "feedforward_dim", "kernel")})
            for i in range(count))
        if self.factor > 1:
            self.downsample = Downsample(self.factor)
            self.bypass = Bypass(self.dim)

    def forward(self, x: Tensor, view: View, lengths: Tensor | None = None, feature_mask: Tensor | None = None,
                cache: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor] | None]:
        """x [B, T, D] → [B, T, D].

        Args:
            view: at the stack's frame rate.
            lengths: [B], of x; see Downsample.
            feature_mask: [B, 1, D], multiplied in before and after each layer.
            cache: of all layers, one after the other, in streaming.
        """
        before = x
        if self.factor > 1:
            x = self.downsample(x, lengths)
        view = replace(view, positions=F.dropout(view.positions, 0.15, self.training))
        x = x if feature_mask is None else x * feature_mask
        after: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x, kept = checkpoint(layer, x, view, use_reentrant=False)
            else:
                x, kept = layer(x, view, None if cache is None else cache[6 * i:6 * i + 6])
            after += kept or []
            x = x if feature_mask is None else x * feature_mask
        if self.factor > 1:
            x = self.bypass(before, upsample(x, self.factor, before.shape[1]))
        return x, (None if cache is None else after)
