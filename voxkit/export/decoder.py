"""The graphs of an attention decoder: keys and values of the encoder's states, once; then any number of tokens with a cache.

    memory.onnx    states [B, T, D] → key0 [B, H, d, T], value0 [B, H, T, d], key1, value1, ... of every layer
    decoder.onnx   tokens [B, W, P], parents [B, W], past [L, 2, B, V, H, U, d], frames [B], key0, value0, ...
                   → log_probs [B, W, P, vocabulary], past [L, 2, B, W, H, U + P, d], attention [B, W, P, T],
                     and of a decoder whose alignment heads are known followed [B, W, P, heads, T]

One graph serves a prompt (W 1, P its length, an empty past), a step of greedy search or of a beam (P 1), and the scoring of whole
hypotheses (P their length). W hypotheses continue any of the V before them: `parents` says which, and it is always gathered. Keys come
transposed and by layer, as the product with them wants them: a step then copies nothing of what was heard.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxkit.export.trace import Graph, Port
from voxkit.masks import lengths_to_mask


class Memory(nn.Module):
    """States [B, T, D] → keys [B, H, d, T] and values [B, H, T, d] of every layer's cross-attention."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        pairs = [layer.cross_attention.keys_values(states) for layer in self.decoder.layers]
        return tuple(kept for keys, values in pairs for kept in (keys.transpose(2, 3).contiguous(), values.contiguous()))


class Steps(nn.Module):
    """The decoder over the next P tokens of W hypotheses of each utterance, see the module.

    Args:
        decoder: a TokenDecoder with `embed_at`.
        heads: (layer, head) pairs whose cross-attention follows the audio: `followed` is theirs, `attention` their mean; None = `attention`
            is the mean of all.
    """

    def __init__(self, decoder: Any, heads: list[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self.decoder, self.heads = decoder, heads

    def forward(self, tokens: Tensor, parents: Tensor, past: Tensor, frames: Tensor, *cross: Tensor) -> tuple[Tensor, ...]:
        decoder, (size, width, count) = self.decoder, tokens.shape
        layers, before, done = len(decoder.layers), past.shape[3], past.shape[5]
        heads, depth, heard = past.shape[4], past.shape[6], cross[1].shape[2]
        # hypotheses of all utterances in one row, taken from there
        index = (parents + before * torch.arange(size, device=parents.device)[:, None]).reshape(size * width)
        past = past.reshape(layers, 2, size * before, heads, done, depth).index_select(2, index)
        places = done + torch.arange(count, device=tokens.device)
        seen = torch.arange(done + count, device=tokens.device)[None, :] <= places[:, None]
        seen_frames = torch.full_like(frames, heard) if decoder.whole else frames
        cross_mask = lengths_to_mask(seen_frames, heard)[:, None, None, :]
        x = decoder.embed_at(tokens.reshape(size * width, count), places)
        kept, watched = [], []
        for i, layer in enumerate(decoder.layers):
            x, own, weights = layer(x, (past[i, 0], past[i, 1]), seen, (cross[2 * i].transpose(2, 3), cross[2 * i + 1]), cross_mask, True)
            kept.append(torch.stack(own))
            watched += [weights[:, h] for h in (range(heads) if self.heads is None else [h for at, h in self.heads if at == i])]
        log_probs = decoder.output(decoder.norm(x)).float().log_softmax(-1)
        attention = torch.stack(watched)
        followed = [attention.permute(1, 2, 0, 3).reshape(size, width, count, len(watched), heard)] if self.heads else []
        return (log_probs.reshape(size, width, count, -1),
                torch.stack(kept).reshape(layers, 2, size, width, heads, done + count, depth),
                attention.mean(0).reshape(size, width, count, heard), *followed)


def decoder_graphs(decoder: Any, heads: list[tuple[int, int]] | None = None, most: int = 4096) -> list[Graph]:
    """Both graphs of a decoder in eval mode, float32.

    Args:
        heads: see Steps.
        most: tokens that a hypothesis may have.
    """
    states = torch.randn(3, 37, decoder.layers[0].cross_attention.key.in_features)
    memory, steps = Memory(decoder), Steps(decoder, heads)
    with torch.no_grad():
        cross = memory(states)
    layers, (_, h, _, d) = len(decoder.layers), cross[1].shape
    names = [f"{kind}{i}" for i in range(layers) for kind in ("key", "value")]
    cross_axes = layers * [("batch", None, None, "frames"), ("batch", None, "frames", None)]
    before = ("batch", "before", None, "done", None)
    after = ("batch", "width", None, "total", None)
    inputs = [Port("tokens", torch.randint(4, 8, (3, 5, 2)), ("batch", "width", "count")),
              Port("parents", torch.randint(0, 4, (3, 5)), ("batch", "width")),
              Port("past", torch.randn(layers, 2, 3, 4, h, 6, d), (None, None, *before)),
              Port("frames", torch.tensor([37, 20, 9]), ("batch",)), *map(Port, names, cross, cross_axes)]
    outputs = [Port("log_probs", axes=("batch", "width", "count", None)), Port("next_past", axes=(None, None, *after)),
               Port("attention", axes=("batch", "width", "count", "frames")),
               *([Port("followed", axes=("batch", "width", "count", None, "frames"))] if heads else [])]
    ranges = {"batch": (1, 1024), "frames": (1, 100000), "width": (1, 4096), "before": (1, 4096), "count": (1, most), "done": (0, most)}
    return [Graph("memory", memory, [Port("states", states, ("batch", "frames", None))],
                  [Port(name, axes=axes) for name, axes in zip(names, cross_axes)], {"batch": (1, 1024), "frames": (1, 100000)}),
            Graph("decoder", steps, inputs, outputs, ranges)]
