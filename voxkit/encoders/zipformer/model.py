"""Zipformer (Yao et al. 2023, arXiv 2310.11230): stacks of layers at several frame rates.

    x ─ stack (factor 1) ─ stack (factor 2: ↓ layers ↑ + bypass) ─ ... ─ widest channels of all ─ ↓2 ─ states
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxkit.encoders.transformer import Between
from voxkit.encoders.zipformer.attention import CompactPositions
from voxkit.encoders.zipformer.config import ZipformerConfig
from voxkit.encoders.zipformer.layer import View
from voxkit.encoders.zipformer.stack import Downsample, ZipformerStack
from voxkit.masks import chunk_mask, lengths_to_mask
from voxkit.nn.scaling import convert_width
from voxkit.nn.scheduled import set_schedule_speed


class Zipformer(nn.Module):
    """Encoder of frames at a steady rate (50 frames/s for the named sizes).

    Args:
        config: see there; `from_preset("M")` and others.

    Attributes:
        input_dim, output_dim: widths. downsampling: input frames per output frame. place_dims:
            widths at the input and after each stack.

    Raises:
        ValueError: options that do not fit together, all named.
    """

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        found = config.problems()
        if found:
            raise ValueError("Zipformer: " + "; ".join(found))
        self.config = config
        self.input_dim, self.output_dim = config.input_dim, config.output_dim
        self.downsampling = config.output_downsampling
        self.positions = CompactPositions(config.pos_dim)
        self.stacks = nn.ModuleList(ZipformerStack(config, i) for i in range(config.num_stacks))
        self.place_dims = [config.input_dim, *(stack.dim for stack in self.stacks)]
        self.downsample_output = Downsample(config.output_downsampling) if config.output_downsampling > 1 else None
        self.chunk, self.left_context = config.chunk_size[0], config.left_context[0]
        set_schedule_speed(self, config.schedule_speed)

    def forward(self, x: Tensor, lengths: Tensor, between: Between | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, input_dim], lengths [B] → states [B, T', output_dim], lengths [B]; what stands after a length means nothing.

        Args:
            between: what to make of each stack's output before it goes on: (number of the stack from 1, [B, T, D]) → [B, T, D].
        """
        if x.shape[-1] != self.input_dim:
            raise ValueError(f"Zipformer was made for input of width {self.input_dim} (input_dim), not {x.shape[-1]}")
        chunk, left_chunks = self._chunks()
        size, isolate = x.shape[1], self.config.isolate_padding
        padding = None
        if torch.compiler.is_exporting() or bool((lengths < size).any()):
            padding = ~lengths_to_mask(lengths, size)
            if isolate:
                x = x.masked_fill(padding[..., None], 0.0)
        allowed = chunk_mask(size, chunk, left_chunks, x.device) if chunk > 0 else None
        views: dict[int, View] = {}
        outputs: list[Tensor] = []
        feature_masks = self._feature_masks(x)
        for i, stack in enumerate(self.stacks):
            if stack.factor not in views:
                views[stack.factor] = self._view(stack.factor, size, lengths, padding, allowed, chunk)
            x = convert_width(x, stack.dim)
            x, _ = stack(x, views[stack.factor], lengths if isolate and padding is not None else None,
                         feature_masks[i] if feature_masks else None)
            x = x if between is None else between(i + 1, x)
            outputs.append(x)
        return self._output(outputs, lengths if isolate and padding is not None else None), self.output_lengths(lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames out for frames in."""
        return lengths if self.downsample_output is None else (lengths + 1) // 2

    def set_chunk(self, chunk: int, left_context: int = -1) -> None:
        """What evaluation and streaming use; frames of the input, -1 = everything. left_context is rounded down to whole chunks.

        Raises:
            ValueError: no causal model, or a chunk that the downsampling factors do not divide.
        """
        found = ZipformerConfig(**{**vars(self.config), "chunk_size": [chunk], "left_context": [left_context]}).chunk_problems()
        if found:
            raise ValueError("Zipformer: " + "; ".join(found))
        self.chunk, self.left_context = chunk, left_context

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
        """State before the first chunk: frames so far [B] (int64), then six tensors per layer, batch first (`ZipformerLayer.empty_cache`).

        Raises:
            ValueError: no causal model, or chunk or left context without bound: see `set_chunk`.
        """
        chunk, left = self._streaming_chunk()
        state = [torch.zeros(batch_size, dtype=torch.int64, device=device)]
        for stack in self.stacks:
            for layer in stack.layers:
                state += layer.empty_cache(batch_size, left // stack.factor, device)
        return tuple(state)

    def stream(self, x: Tensor, state: tuple[Tensor, ...] | list[Tensor], between: Between | None = None,
               lengths: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One chunk: x [B, chunk, input_dim] and the state before it → [B, chunk / downsampling, output_dim] and the state after it.

        What comes out is what `forward` gives for the same frames and the same `between`. Only the last chunk of an utterance may be
        shorter.

        Args:
            lengths: [B] frames of each row, where some rows end within this chunk and others do not; None = all are whole.
        """
        chunk, left = self._streaming_chunk()
        size, done = x.shape[1], state[0]
        if size > chunk:
            raise ValueError(f"Zipformer streams at most one chunk ({chunk} frames) at a time, not {size}")
        after, outputs, start = [done + size], [], 1
        for i, stack in enumerate(self.stacks):
            own_left, own_size = left // stack.factor, -(-size // stack.factor)
            # the cache starts empty: its oldest frames are not there yet
            blocked = torch.arange(own_left + own_size, device=x.device) < own_left - (done // stack.factor)[:, None]
            padding = None
            if lengths is not None:
                own_lengths = (lengths + stack.factor - 1) // stack.factor
                padding = ~lengths_to_mask(own_lengths, own_size)[..., None]
                blocked = blocked | ~lengths_to_mask(own_left + own_lengths, own_left + own_size)
            view = View(self.positions(own_size, own_left), blocked[:, None], padding, chunk // stack.factor)
            count = 6 * len(stack.layers)
            x, kept = stack(convert_width(x, stack.dim), view, lengths, cache=list(state[start:start + count]))
            after += kept
            start += count
            x = x if between is None else between(i + 1, x)
            outputs.append(x)
        return self._output(outputs, lengths), tuple(after)

    def _output(self, outputs: list[Tensor], lengths: Tensor | None) -> Tensor:
        """Each channel from the last stack that is wide enough to have it, at the output's frame rate."""
        pieces, width = [outputs[-1]], outputs[-1].shape[-1]
        for output in reversed(outputs[:-1]):
            if output.shape[-1] > width:
                pieces.append(output[..., width:])
                width = output.shape[-1]
        x = torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]
        return x if self.downsample_output is None else self.downsample_output(x, lengths)

    def _view(self, factor: int, size: int, lengths: Tensor, padding: Tensor | None, allowed: Tensor | None, chunk: int) -> View:
        """What the layers of stacks with this factor see."""
        own_size = (size + factor - 1) // factor
        own_chunk = chunk // factor if chunk > 0 else -1
        if not self.config.isolate_padding and own_chunk > own_size:
            own_chunk = -1
        blocked = None if allowed is None else ~allowed[::factor, ::factor][None]
        view = View(self.positions(own_size), blocked, None, own_chunk)
        if padding is not None:
            padding = padding[:, ::factor]
            view.padding = padding[..., None]
            view.blocked = padding[:, None] if blocked is None else blocked | padding[:, None]
            if self.config.isolate_padding:
                view.lengths = (lengths + factor - 1) // factor
        return view

    def _chunks(self) -> tuple[int, int]:
        """Chunk in frames and left context in chunks of this pass; -1 = everything."""
        if not self.config.causal:
            return -1, -1
        if self.training:
            chunk, left = _choice(self.config.chunk_size), _choice(self.config.left_context)
        else:
            chunk, left = self.chunk, self.left_context
        return chunk, (-1 if chunk < 0 or left < 0 else max(1, left // chunk))

    def _streaming_chunk(self) -> tuple[int, int]:
        """Chunk and left context in frames."""
        chunk, left = self.chunk, self.left_context
        if not self.config.causal or chunk < 0 or left < 0:
            raise ValueError("Zipformer streams with causal: true and a bounded chunk and left context: set_chunk(32, 128)")
        return chunk, max(1, left // chunk) * chunk

    def _feature_masks(self, x: Tensor) -> list[Tensor] | None:
        """[B, 1, D] per stack, in training: in an eighth of the sequences all channels beyond unmasked_dim are zero, in another eighth
        or so the upper half of them; alike in all stacks."""
        if not self.training:
            return None
        keep = torch.rand(x.shape[0], 1, 2, device=x.device) > 0.125
        first, both = keep[..., :1], keep.all(-1, keepdim=True)
        masks = []
        for stack in self.stacks:
            low = stack.unmasked_dim
            middle = low + (stack.dim - low) // 2
            mask = torch.ones(x.shape[0], 1, stack.dim, dtype=x.dtype, device=x.device)
            mask[..., low:middle] = first
            mask[..., middle:] = both
            masks.append(mask)
        return masks


def _choice(values: list[int]) -> int:
    """A random entry, from torch's generator."""
    return values[int(torch.randint(len(values), ()))] if len(values) > 1 else values[0]
