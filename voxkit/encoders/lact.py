"""An encoder that adapts while it listens: LaCT blocks, window attention with fast weights in the lower layers (arXiv 2505.23884).

What its fast weights have learned is a value, a tuple of tensors for all layers. `forward_carried` takes it and gives it back; `forward`
begins anew with each utterance, as every other encoder does. `stream` works on any number of frames at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxkit.nn.chunks import ChunkProcessor
from voxkit.nn.lact import FastConfig, FastLayer, LaCTAudioBlock
from voxkit.ops.checks import check_lengths, check_shapes
from voxkit.ops.lact import FastWeights

Between = Callable[[int, Tensor], Tensor]
Carried = tuple[Tensor, ...]


@dataclass
class LaCTConfig:
    """Attributes:
    dim: width; heads: of the window attention; ffn: inner width of the feed-forward; layers; dropout; activation: of the feed-forward.
    left, right: window of the attention in frames, before and after; right 0 is causal, and streams.
    fast_layers: how many layers from below have fast weights (the upper ones know less of who speaks); -1 = all.
    updates: False = fast weights never learn: the network without adaptation, for comparison.
    fast: of the fast weights.
    """

    dim: int = 256
    heads: int = 4
    ffn: int = 768
    layers: int = 12
    dropout: float = 0.1
    activation: str = "swiglu"
    left: int = 64
    right: int = 0
    fast_layers: int = -1
    updates: bool = True
    fast: FastConfig = field(default_factory=FastConfig)

    def problems(self) -> list[str]:
        found = [f"heads: {self.heads} does not divide dim {self.dim}"] if self.dim % self.heads else []
        if self.dim % self.fast.heads:
            found.append(f"fast.heads: {self.fast.heads} does not divide dim {self.dim}")
        found += [f"{name}: {getattr(self, name)} is below 1" for name in ("dim", "heads", "ffn", "layers") if getattr(self, name) < 1]
        if self.left < 0 or self.right < 0:
            found.append(f"left: {self.left} and right: {self.right}: a window cannot end before 0")
        if not -1 <= self.fast_layers <= self.layers:
            found.append(f"fast_layers: {self.fast_layers} is not between -1 (all) and layers, {self.layers}")
        return found


class LaCTEncoder(nn.Module):
    """Projection, LaCT blocks, a last norm. The frame rate stays as it is.

    Args:
        config: sizes.
        input_dim: width of what comes in.

    Attributes:
        place_dims: widths at the input and after each layer.
        carries: tensors of the carried value.
    """

    downsampling = 1

    def __init__(self, config: LaCTConfig, input_dim: int) -> None:
        super().__init__()
        self.config, self.output_dim, self.checkpointing = config, config.dim, False
        self.place_dims = [input_dim] + config.layers * [config.dim]
        self.input, self.norm = nn.Linear(input_dim, config.dim), nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        learns = config.layers if config.fast_layers < 0 else config.fast_layers
        self.layers = nn.ModuleList(
            LaCTAudioBlock(config.dim, config.heads, config.ffn, config.left, config.right, config.fast if n < learns else None,
                           config.dropout, config.activation) for n in range(config.layers))
        self.chunks = ChunkProcessor(config.fast.chunk, config.fast.overlap, config.fast.borders, config.fast.least)
        self.carries = learns * FastLayer.state_size
        self.set_updates(config.updates)

    def set_updates(self, on: bool) -> None:
        """Whether the fast weights learn; off, the layers read their initial weights."""
        for layer in self.fast_layers():
            layer.updates = on

    def fast_layers(self) -> list[FastLayer]:
        """The layers' fast weights, from below."""
        return [layer.fast for layer in self.layers if layer.fast is not None]

    def initial(self, batch: int) -> Carried:
        """What is carried into the first utterance of a session: for each layer the tensors of FastWeights [B · heads, ...]."""
        return tuple(x for layer in self.layers for x in layer.initial(batch))

    def rest(self, carried: Carried) -> Carried:
        """Between two utterances: each layer forgets a learned share."""
        return tuple(x for layer, state in zip(self.fast_layers(), weights_of(carried)) for x in layer.rest(state))

    def forward(self, x: Tensor, lengths: Tensor, between: Between | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, F], lengths [B] → states [B, T, D], lengths [B], from the initial weights. What padding holds does not matter.

        Args:
            between: what to make of each layer's output before it goes on: (number of the layer from 1, [B, T, D]) → [B, T, D].
        """
        states, _ = self.forward_carried(x, lengths, self.initial(len(x)), between=between, carry=False)
        return states, lengths

    def forward_carried(self, x: Tensor, lengths: Tensor, carried: Carried, *, marks: Tensor | None = None,
                        between: Between | None = None, carry: bool = True) -> tuple[Tensor, Carried]:
        """As `forward`, with what the fast weights learned before → states [B, T, D], and what they have learned by now.

        Args:
            carried: as `initial` gives it, or as the call before did.
            marks: [B, T], where chunks may end (`fast.borders: marked`).
            carry: False spares the last step; what is given back has then not learned from the last chunk.
        """
        check_shapes({"x": (x, "BTF"), "lengths": (lengths, "B")}, F=self.input.in_features)
        check_lengths(lengths, x.shape[1])
        if len(carried) != self.carries:
            raise ValueError(f"the carried state has {len(carried)} tensors, and this encoder's has {self.carries}: it is another model's")
        layout = self.chunks.layout(lengths, x.shape[1], marks)
        x, after = self.dropout(self.input(x)), []
        rest = iter(carried)
        for place, layer in enumerate(self.layers, 1):
            own = tuple(next(rest) for _ in range(FastLayer.state_size if layer.fast is not None else 0))
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x, own = checkpoint(layer, x, lengths, own, layout, carry, use_reentrant=False)
            else:
                x, own = layer(x, lengths, own, layout, carry)
            after += own
            x = x if between is None else between(place, x)
        return self.norm(x), tuple(after)

    @torch.no_grad()
    def agreement(self, x: Tensor, lengths: Tensor, carried: Carried) -> Tensor:
        """How well a state knows an utterance before it has learned from it: the inner loss's opposite, a mean over layers, [B]. Each
        layer hears what those below make of it with the state that is asked about."""
        layout, found, rest = self.chunks.layout(lengths, x.shape[1]) if self.config.fast.borders == "fixed" else None, [], iter(carried)
        x = self.input(x)
        for layer in self.layers:
            own = tuple(next(rest) for _ in range(FastLayer.state_size if layer.fast is not None else 0))
            if layer.fast is not None:
                found.append(layer.agreement(x, lengths, own))
            x, _ = layer(x, lengths, own, layout)
        return torch.stack(found).mean(0)

    def change(self, carried: Carried) -> Tensor:
        """How far each layer's weights have moved from where they began, relative to their size: [B, layers, heads]."""
        return torch.stack([layer.change(state) for layer, state in zip(self.fast_layers(), weights_of(carried))], 1)

    def not_streaming(self) -> str | None:
        """Why this encoder cannot take frames as they come; None where it can."""
        fast = self.config.fast
        if self.config.right:
            return f"the window looks {self.config.right} frames ahead: train with model.encoder.right=0"
        if fast.borders != "fixed" or fast.overlap:
            return "chunks that overlap or end at marks do not stream: train with model.encoder.fast.borders=fixed, fast.overlap=0"
        if fast.order == "bidirectional":
            return "bidirectional fast weights learn from the whole utterance first: train with model.encoder.fast.order=apply_update"
        return None

    @property
    def step(self) -> int:
        """Frames that `stream` takes at a time: any number, or whole chunks where a chunk is learned from before it is read."""
        return self.config.fast.chunk if self.config.fast.order == "update_apply" and self.carries else 1

    def init_state(self, batch_size: int = 1, device: torch.device | str | None = None,
                   carried: Carried | None = None) -> tuple[Tensor, ...]:
        """State before the first frame: for each layer window keys and values, fast weights, and the open chunk.

        Args:
            carried: what the session has taught before; None = nothing.

        Raises:
            ValueError: an encoder that does not stream.
        """
        if reason := self.not_streaming():
            raise ValueError(reason)
        like = torch.zeros(batch_size, 0, self.config.dim, device=device)
        given = iter(self.initial(batch_size) if carried is None else carried)
        state: list[Tensor] = []
        for layer in self.layers:
            own = tuple(next(given) for _ in range(FastLayer.state_size)) if layer.fast is not None else None
            state += layer.init_state(like, own)
        return tuple(state)

    def stream(self, x: Tensor, state: tuple[Tensor, ...], between: Between | None = None, *,
               final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames [B, n, F], a multiple of `step` unless they are the last → states [B, n, D], and the state after them.

        Args:
            final: the stream ends here: open chunks are learned from.
        """
        x, after, at = self.input(x), [], 0
        for place, layer in enumerate(self.layers, 1):
            size = self._tensors(layer)
            x, own = layer.stream(x, state[at:at + size], final=final)
            after += own
            at += size
            x = x if between is None else between(place, x)
        return self.norm(x), tuple(after)

    def carried_of(self, state: tuple[Tensor, ...]) -> Carried:
        """What a stream has learned, out of its state."""
        found, at = [], 0
        for layer in self.layers:
            size = self._tensors(layer)
            if layer.fast is not None:
                found += state[at + 2:at + 2 + FastLayer.state_size]
            at += size
        return tuple(found)

    @staticmethod
    def _tensors(layer: LaCTAudioBlock) -> int:
        return 2 if layer.fast is None else 2 + FastLayer.state_size + 4


def weights_of(carried: Carried) -> list[FastWeights]:
    """The carried tensors layer by layer."""
    size = FastLayer.state_size
    return [FastWeights(*carried[at:at + size]) for at in range(0, len(carried), size)]
