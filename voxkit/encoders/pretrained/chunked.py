"""The wav2vec 2.0 family by chunks, so that it streams: no frame depends on audio past the end of its own chunk.

What looks at the whole utterance in the published models is bounded here, offline and in a stream alike:

* self-attention sees a frame's own chunk and `left` frames before it;
* the convolutional position embedding (64 frames to either side) sees zeros where the next chunk would be;
* norms over time (of the waveform, and in the first convolution of Base models) take what was heard until the end of the chunk.

A model that was pretrained on whole utterances has to be trained on for this: open its layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.encoders.pretrained.backbone import check_audio, zero_padding
from voxkit.encoders.pretrained.wav2vec import Wav2VecBackbone
from voxkit.masks import chunk_mask, lengths_to_mask

State = tuple[Tensor, ...]


class Moments(NamedTuple):
    """Of what was heard so far, float64: how much [B, 1], sums [B, C], sums of squares [B, C]."""

    count: Tensor
    total: Tensor
    squares: Tensor


class Context(NamedTuple):
    """What all layers need: which keys a query may see [B, 1, T, K] (True = may), WavLM's position bias [H, T, K] or None."""

    allowed: Tensor
    bias: Tensor | None


class ChunkedWav2Vec(Wav2VecBackbone):
    """A Wav2Vec2Model, HubertModel or WavLMModel that hears chunk by chunk.

    Args:
        model, preprocessor, normalize: as of Wav2VecBackbone.
        chunk: frames of one; left: frames before it that are seen, whole chunks.
    """

    def __init__(self, model: nn.Module, preprocessor: dict[str, Any], normalize: bool | None = None, *, chunk: int, left: int) -> None:
        super().__init__(model, preprocessor, normalize)
        self.chunk, self.left = chunk, left
        self.samples = chunk * self.hop  # by which one chunk is later than the one before
        self.window = self.samples + self.shortest - self.hop  # samples that a chunk's frames are made of

    def embed(self, audio: Tensor, lengths: Tensor, ids: list[str] | None = None) -> tuple[Tensor, Tensor]:
        check_audio(audio, lengths, self.shortest, None, ids, f"a {self.family} encoder")
        frames = (lengths - self.shortest).div(self.hop, rounding_mode="floor") + 1
        longest = int(frames.max())
        count = -(-longest // self.chunk)
        whole = (count - 1) * self.samples + self.window
        audio = F.pad(audio[:, :whole], (0, max(0, whole - audio.shape[1])))
        starts = self.samples * torch.arange(count, device=audio.device)
        valid = (lengths[:, None] - starts).clamp(0, self.window)
        x, _ = self._frames(audio.unfold(1, self.window, self.samples), valid, (self._moments(audio, 1), self._moments(audio)), True)
        x = zero_padding(x.flatten(1, 2)[:, :longest], frames)
        spread = self._before_positions(x)
        tail = count * self.chunk - longest
        windows = F.pad(zero_padding(spread, frames), (0, 0, self._reach, tail)).unfold(1, self._reach + self.chunk, self.chunk)
        places = self._positions_of(windows.transpose(2, 3).flatten(0, 1)).unflatten(0, (len(x), count)).flatten(1, 2)
        x = x + places[:, :longest]
        return (x if self.first_norm is None else self.first_norm(x)), frames

    def context(self, lengths: Tensor, frames: int) -> Context:
        allowed = chunk_mask(frames, self.chunk, self.left // self.chunk, lengths.device)
        allowed = allowed & lengths_to_mask(lengths, frames)[:, None, None] | torch.eye(frames, dtype=torch.bool, device=lengths.device)
        return Context(allowed, self._bias(frames, frames))

    def layer(self, index: int, x: Tensor, context: Context) -> Tensor:
        return self._layer(self.layers[index], x, context, None)[0]

    def options(self) -> dict[str, Any]:
        return {**super().options(), "chunk": self.chunk, "left": self.left}

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Before the first sample: samples that wait [B, S], moments of the waveform and of the first convolution, frames before the next
        chunk for the position embedding [B, 64, D], frames so far [B], keys and values [B, H, left, D'] of every layer."""
        audio = torch.zeros(batch_size, 0, device=device)
        heads = self.config.num_attention_heads
        kept = [torch.zeros(batch_size, heads, self.left, self.dim // heads, device=device) for _ in range(2 * len(self.layers))]
        return (audio, *self._moments(audio, 1), *self._moments(audio), torch.zeros(batch_size, self._reach, self.dim, device=device),
                torch.zeros(batch_size, dtype=torch.int64, device=device), *kept)

    @property
    def state_size(self) -> int:
        """Tensors of a state."""
        return 9 + 2 * len(self.layers)

    def stream(self, audio: Tensor, state: State, *, final: bool = False) -> tuple[list[Tensor], State]:
        """The next samples [B, S], any number of them → states 0 to N, [B, n, D] each, of the chunks that are whole with them, and the
        state after them.

        Args:
            final: the audio ends here; the last chunk, cut short, comes out too.
        """
        audio = torch.cat((state[0], audio), dim=1)
        found: list[list[Tensor]] = []
        state = (audio, *state[1:])
        while state[0].shape[1] >= self.window:
            states, state = self._chunk(state, self.window)
            found.append(states)
        if final and state[0].shape[1] >= self.shortest:
            states, state = self._chunk(state, state[0].shape[1])
            found.append(states)
        if not found:
            return [audio.new_zeros(len(audio), 0, self.dim) for _ in range(len(self.layers) + 1)], state
        return [torch.cat(parts, dim=1) for parts in zip(*found)], state

    def _chunk(self, state: State, size: int) -> tuple[list[Tensor], State]:
        """The chunk at the beginning of what waits; a last one has a `size` below the window."""
        waiting, moments, (before, done), kept = state[0], state[1:7], state[7:9], state[9:]
        count = (size - self.shortest) // self.hop + 1
        window = F.pad(waiting[:, :size], (0, self.window - size))[:, None]
        valid = torch.full((len(waiting), 1), size, device=waiting.device)
        x, after = self._frames(window, valid, (Moments(*moments[:3]), Moments(*moments[3:])), bool(done[0] == 0))
        x = x[:, 0, :count]
        spread = torch.cat((before, self._before_positions(x)), dim=1)
        x = x + self._positions_of(spread)
        x = x if self.first_norm is None else self.first_norm(x)
        own = torch.arange(self.left + count, device=x.device)
        allowed = (own >= self.left - done[:, None])[:, None, None].expand(-1, 1, count, -1)
        context = Context(allowed, self._bias(count, self.left + count))
        states, cache = [x], []
        for layer, keys, values in zip(self.layers, kept[::2], kept[1::2]):
            x, after_keys, after_values = self._layer(layer, x, context, (keys, values))
            cache += [after_keys, after_values]
            states.append(x)
        states[-1] = self.final(states[-1])
        return states, (waiting[:, self.samples:], *after[0], *after[1], spread[:, -self._reach:], done + count, *cache)

    def _frames(self, windows: Tensor, valid: Tensor, before: tuple[Moments, Moments],
                first: bool) -> tuple[Tensor, tuple[Moments, Moments]]:
        """Windows [B, n, W] of audio, one for each chunk, `valid` [B, n] samples of each → frames [B, n, chunk, D] before positions, and
        what the norms over time know after them.

        Args:
            first: whether the first window begins the utterance; else what it shares with the one before counts no more.
        """
        overlap = self.window - self.samples
        mask = torch.arange(self.window, device=windows.device) < valid[..., None]
        x = windows.masked_fill(~mask, 0.0)
        sound, first_conv = before
        if self.normalize:
            new = mask.clone()
            new[:, 0 if not first else 1:, :overlap] = False
            sound, mean, deviation = _so_far(sound, x[..., None, :], new, 1e-7)
            x = ((x - mean[..., 0]) / deviation[..., 0]).masked_fill(~mask, 0.0)
        x = x.flatten(0, 1)[:, None]
        for index, conv in enumerate(self.convs):
            if index == 0 and self.config.feat_extract_norm == "group":
                x = conv.conv(x)
                x, first_conv = self._over_time(x.unflatten(0, windows.shape[:2]), valid, conv.layer_norm, first_conv, first)
                x = conv.activation(x.flatten(0, 1))
            else:
                x = conv(x)
        x = self.projection(x.transpose(1, 2))
        return (x[0] if isinstance(x, tuple) else x).unflatten(0, windows.shape[:2]), (sound, first_conv)

    def _over_time(self, x: Tensor, valid: Tensor, norm: nn.GroupNorm, before: Moments, first: bool) -> tuple[Tensor, Moments]:
        """x [B, n, C, T] of the first convolution, normalized over the frames so far."""
        kernel, stride = self.config.conv_kernel[0], self.config.conv_stride[0]
        frames = (valid - kernel).div(stride, rounding_mode="floor") + 1
        new = torch.arange(x.shape[-1], device=x.device) < frames[..., None]
        new[:, 0 if not first else 1:, :x.shape[-1] - self.samples // stride] = False
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            after, mean, deviation = _so_far(before, x, new, norm.eps)
            return (x - mean) / deviation * norm.weight[:, None] + norm.bias[:, None], after

    def _moments(self, like: Tensor, channels: int | None = None) -> Moments:
        channels = self.convs[0].conv.out_channels if channels is None else channels
        zeros = torch.zeros(len(like), channels, dtype=torch.float64, device=like.device)
        return Moments(zeros[:, :1], zeros, zeros)

    @property
    def _reach(self) -> int:
        """Frames before its own that the position embedding sees."""
        return self.position_conv.conv.padding[0]

    def _before_positions(self, x: Tensor) -> Tensor:
        """What the position embedding's convolution reads."""
        norm = getattr(self.position_conv, "batch_norm", None)
        return x if norm is None else norm(x.transpose(1, 2)).transpose(1, 2)

    def _positions_of(self, x: Tensor) -> Tensor:
        """[N, reach + T, D] → [N, T, D], zeros where the frames after them would be."""
        conv = self.position_conv
        return conv.activation(conv.padding(conv.conv(x.transpose(1, 2)))).transpose(1, 2)[:, self._reach:]

    def _bias(self, queries: int, keys: int) -> Tensor | None:
        """WavLM's, of the last `queries` of so many frames."""
        if self.family != "wavlm":
            return None
        return self.layers[0].attention.compute_bias(keys, keys)[:, keys - queries:]

    def _layer(self, layer: Any, x: Tensor, context: Context, kept: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, D], keys and values of `left` frames before it → the layer's output, keys and values of its last `left` frames."""
        y, keys, values = self._attend(layer.attention, layer.layer_norm(x) if self.stable else x, context, kept)
        x = x + layer.dropout(y)
        if self.stable:
            x = x + layer.feed_forward(layer.final_layer_norm(x))
        else:
            x = layer.layer_norm(x)
            x = layer.final_layer_norm(x + layer.feed_forward(x))
        adapter = getattr(layer, "adapter_layer", None)
        return (x if adapter is None else x + adapter(x)), keys, values

    def _attend(self, attention: Any, x: Tensor, context: Context, kept: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (project(x).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
                             for project in (attention.q_proj, attention.k_proj, attention.v_proj))
        if kept is not None:
            key, value = torch.cat((kept[0], key), dim=2), torch.cat((kept[1], value), dim=2)
        mask = context.allowed
        if context.bias is not None:
            mask = (self._gate(attention, x) * context.bias).masked_fill(~mask, float("-inf")).to(query.dtype)
        dropout = attention.dropout if attention.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        y = attention.out_proj(y.transpose(1, 2).flatten(2))
        return y, key[:, :, key.shape[2] - self.left:], value[:, :, value.shape[2] - self.left:]

    def _gate(self, attention: Any, x: Tensor) -> Tensor:
        """WavLM's gate of the position bias (arXiv 2110.13900, eq. 5 to 8): [B, H, T, 1]."""
        by_head = x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        gates = attention.gru_rel_pos_linear(by_head).unflatten(-1, (2, 4)).sum(-1)
        a, b = torch.sigmoid(gates).chunk(2, dim=-1)
        return a * (b * attention.gru_rel_pos_const - 1.0) + 2.0


def _so_far(before: Moments, x: Tensor, new: Tensor, eps: float) -> tuple[Moments, Tensor, Tensor]:
    """Windows x [B, n, C, T], `new` [B, n, T] True for what counts and did not before → moments after the last window, and mean and
    deviation [B, n, C, 1] at the end of each."""
    kept = x.double().masked_fill(~new[:, :, None], 0.0)
    count = before.count[:, None] + new.sum(-1, dtype=torch.float64)[..., None].cumsum(1)
    total = before.total[:, None] + kept.sum(-1).cumsum(1)
    squares = before.squares[:, None] + kept.square().sum(-1).cumsum(1)
    mean = total / count.clamp(min=1)
    deviation = ((squares / count.clamp(min=1) - mean.square()).clamp(min=0) + eps).sqrt()
    return Moments(count[:, -1], total[:, -1], squares[:, -1]), mean.to(x.dtype)[..., None], deviation.to(x.dtype)[..., None]
