"""A layer that learns while it listens: window attention for what is near, fast weights for all that was heard (LaCT, arXiv 2505.23884)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask
from voxkit.nn.chunks import BORDERS, Layout
from voxkit.nn.feed_forward import FeedForward
from voxkit.nn.window import WindowAttention
from voxkit.ops.lact import NORMS, ORDERS, FastOptions, FastWeights, Frames, normalized, start, swiglu
from voxkit.ops.lact_fast import lact, lact_stream

_DTYPES = {"": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class FastConfig:
    """Of the fast weights of a layer.

    Attributes:
        heads: networks that learn beside each other, each over its share of the width.
        hidden: inner width of each, as a multiple of its share.
        chunk: frames between two steps; overlap: frames before a chunk that its step looks at again.
        borders: fixed, or marked: where marks given with a batch allow it (voxkit.nn.chunks), not before `least`.
        order: apply_update, update_apply or bidirectional; norm: post or pre (see voxkit.ops.lact).
        rate: what the learned rate of a frame starts at. Without Muon 0.1-0.5 move the weights by 3-15 % a chunk of 64.
        momentum: whether a gate lets steps go on into the next chunk.
        muon: orthogonal steps of learned size, which cost three to five times the rest; muon_dtype: empty = float32, bfloat16 or float16.
        gate: what the gate that lets the fast weights speak starts at.
    """

    heads: int = 4
    hidden: float = 1.0
    chunk: int = 64
    overlap: int = 0
    borders: str = "fixed"
    least: int = 32
    order: str = "apply_update"
    norm: str = "post"
    rate: float = 0.2
    momentum: bool = True
    muon: bool = False
    muon_dtype: str = ""
    gate: float = 0.1

    def problems(self) -> list[str]:
        choices = (("order", ORDERS), ("norm", NORMS), ("borders", BORDERS))
        found = [f"{name}: {getattr(self, name)!r} is none of {', '.join(valid)}" for name, valid in choices
                 if getattr(self, name) not in valid]
        found += [f"{name}: {getattr(self, name)} is below 1" for name in ("heads", "chunk") if getattr(self, name) < 1]
        found += [f"{name}: {getattr(self, name)} is not above 0" for name in ("hidden", "rate") if getattr(self, name) <= 0]
        if not 0 < self.gate < 1:
            found.append(f"gate: {self.gate} is not between 0 and 1")
        if self.overlap < 0:
            found.append(f"overlap: {self.overlap} is below 0")
        if self.borders == "marked" and not 1 <= self.least <= self.chunk:
            found.append(f"least: {self.least} is not between 1 and chunk, {self.chunk}")
        if self.muon_dtype not in _DTYPES:
            found.append(f"muon_dtype: {self.muon_dtype!r} is none of bfloat16, float16, or empty for float32")
        return found

    @property
    def options(self) -> FastOptions:
        """For the operator."""
        keys = self.chunk + self.overlap if self.overlap else 0
        return FastOptions(self.chunk, keys, self.order, self.norm, self.muon, _DTYPES[self.muon_dtype])


class FastLayer(nn.Module):
    """Fast weights over queries, keys and values that were projected before: heads apart, queries and keys of length 1, a gate at the end.

    Args:
        config: sizes and rules.
        dim: width.

    Attributes:
        updates: False reads the initial weights and never learns: the same network without adaptation.
    """

    state_size = 9  # tensors

    def __init__(self, config: FastConfig, dim: int) -> None:
        super().__init__()
        if dim % config.heads:
            raise ValueError(f"fast.heads: {config.heads} does not divide the width {dim}")
        self.config, self.options, self.updates = config, config.options, True
        heads, share = config.heads, dim // config.heads
        inner = max(1, round(config.hidden * share))
        self.w0, self.w2 = (nn.Parameter(torch.randn(heads, inner, share) / math.sqrt(share)) for _ in range(2))
        self.w1 = nn.Parameter(torch.randn(heads, share, inner) / math.sqrt(inner))
        self.scale, self.shift = nn.Parameter(torch.ones(2, dim)), nn.Parameter(torch.zeros(2, dim))  # of queries and keys
        self.control = nn.Linear(dim, heads * (5 if config.momentum else 4))  # rates of three matrices, gate, momentum
        self.norm = nn.Parameter(torch.ones(dim))
        self.keep = nn.Parameter(torch.full((heads,), 2.0))  # how much of what was learned outlives an utterance, before the sigmoid
        self.size = nn.Parameter(torch.full((heads,), config.rate)) if config.muon else None  # of Muon's step
        with torch.no_grad():
            self.control.weight.mul_(0.1)
            bias = self.control.bias.view(-1, heads)
            bias[:3] = math.log(math.expm1(config.rate))
            bias[3] = math.log(config.gate / (1 - config.gate))
            bias[4:] = 0.0

    def initial(self, batch: int) -> FastWeights:
        """The state before the first frame, [B · heads, ...]."""
        return start(*(w.float().repeat(batch, 1, 1) for w in (self.w0, self.w1, self.w2)))

    def forward(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, state: FastWeights,
                layout: Layout | None = None, learn_last: bool = True) -> tuple[Tensor, FastWeights]:
        """Args:
            x, q, k, v: [B, T, D]; rates and gates are read from x.
            valid: [B, T]; None = every frame.
            state: before the first frame.
            layout: where chunks end; None = every `chunk` frames.
            learn_last: False spares the last chunk's step where nobody carries the state on.

        Returns:
            [B, T, D], and the state after the last frame.
        """
        q, frames, gate = self._heads(x, q, k, v, valid)
        if not self.updates:
            return self._speak(self._read(q, state), gate), state
        if layout is None:
            out, state = lact(q, frames, state, self.options, self._size(len(x)), learn_last=learn_last)
            return self._speak(out, gate), state
        heads = partial(torch.flatten, start_dim=0, end_dim=1)  # [B, heads, ...] → [B · heads, ...]

        def moved(y: Tensor, how: Callable[[Tensor], Tensor]) -> Tensor:
            return heads(how(y.unflatten(0, (len(x), -1)).transpose(1, 2)).transpose(1, 2))

        frames = frames.map(lambda y: moved(y, layout.to_learned))
        frames = frames._replace(valid=layout.valid.repeat_interleave(self.config.heads, 0))
        out, state = lact(moved(q, layout.to_queries), frames, state, self.options, self._size(len(x)), learn_last=learn_last)
        return self._speak(moved(out, layout.restore), gate), state

    def init_stream(self, batch: int) -> tuple[Tensor, ...]:
        """The open chunk before the first frame: keys, values, rates and momentum gates of no frame."""
        heads, share = self.config.heads, self.w0.shape[2]
        widths = (share, share, 3, 1)
        return tuple(self.w0.new_zeros(batch * heads, 0, width) for width in widths)

    def stream(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, state: FastWeights, begun: tuple[Tensor, ...], *,
               final: bool = False) -> tuple[Tensor, FastWeights, tuple[Tensor, ...]]:
        """The next frames, any number of them (update_apply: whole chunks) → [B, n, D], state, the open chunk."""
        q, frames, gate = self._heads(x, q, k, v, None)
        if not self.updates:
            return self._speak(self._read(q, state), gate), state, begun
        pending = Frames(*begun[:3], begun[3][..., 0] if frames.gate is not None else None)
        out, state, rest = lact_stream(q, frames, state, pending if pending.k.shape[1] else None, self.options, self._size(len(x)),
                                       final=final)
        if rest is None:
            begun = tuple(b[:, :0] for b in begun)
        else:
            begun = (rest.k, rest.v, rest.rates, rest.rates[..., :1] if rest.gate is None else rest.gate[..., None])
        return self._speak(out, gate), state, begun

    def rest(self, state: FastWeights) -> FastWeights:
        """What the next utterance begins with: drawn back towards the initial weights by a learned share; momentum likewise."""
        batch = len(state.w0) // self.config.heads
        keep = self.keep.sigmoid().float().repeat(batch)[:, None, None]
        fresh = self.initial(batch)
        weights = (torch.lerp(a, b, keep) for a, b in zip(fresh.weights, state.weights))
        if self.config.norm == "post":
            weights = (normalized(w, n) for w, n in zip(weights, state[6:]))
        return FastWeights(*weights, *(m * keep for m in state[3:6]), *state[6:])

    def change(self, state: FastWeights) -> Tensor:
        """How far the weights have moved from where they began, relative to their size: [B, heads]."""
        fresh = self.initial(len(state.w0) // self.config.heads)
        moved = sum((a - b).square().sum((1, 2)) for a, b in zip(state.weights, fresh.weights))
        size = sum(b.square().sum((1, 2)) for b in fresh.weights)
        return (moved / size).sqrt().view(-1, self.config.heads)

    def agreement(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, state: FastWeights) -> Tensor:
        """How well the weights of a state know these frames before they learn from them: the mean cosine of f(k) and v, [B]. The inner
        loss is its opposite, but for lengths and rates."""
        _, frames, _ = self._heads(x, q, k, v, valid)
        cosine = F.cosine_similarity(self._read(frames.k, state), frames.v, dim=-1)
        on = torch.ones_like(cosine) if frames.valid is None else frames.valid.to(cosine.dtype)
        return ((cosine * on).sum(1) / on.sum(1).clamp(min=1)).view(-1, self.config.heads).mean(1)

    def _heads(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> tuple[Tensor, Frames, Tensor]:
        """Queries and frames with one sequence for each head [B · heads, T, ...], and the gates [B, T, heads, 1]."""
        heads = self.config.heads
        control = self.control(x).float().unflatten(-1, (-1, heads))
        rates = F.softplus(control[:, :, :3]).permute(0, 3, 1, 2).flatten(0, 1)
        momentum = control[:, :, 4].sigmoid().mT.flatten(0, 1) if self.config.momentum else None
        q, k = (F.normalize(self._split(F.silu(y * scale + shift)), dim=-1) for y, scale, shift in zip((q, k), self.scale, self.shift))
        v = self._split(v)
        v = F.rms_norm(v.float(), v.shape[-1:])
        if valid is not None:
            valid = valid.repeat_interleave(heads, 0)
        return q, Frames(k, v, rates, momentum, valid), control[:, :, 3].sigmoid()[..., None]

    def _speak(self, out: Tensor, gate: Tensor) -> Tensor:
        """Heads together again, each at the same loudness, through the gates: → [B, T, D]."""
        out = out.unflatten(0, (-1, self.config.heads)).transpose(1, 2)
        out = F.rms_norm(out.float(), out.shape[-1:], eps=1e-5)
        return ((out * gate).flatten(2) * self.norm).to(self.norm.dtype)

    def _read(self, q: Tensor, state: FastWeights) -> Tensor:
        weights = state.weights
        if self.config.norm == "pre":
            weights = tuple(normalized(w, n) for w, n in zip(weights, state[6:]))
        return swiglu(q.to(state.w0.dtype), *weights)

    def _size(self, batch: int) -> Tensor | None:
        return None if self.size is None else self.size.float().repeat(batch)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.heads, -1)).transpose(1, 2).flatten(0, 1)


class LaCTAudioBlock(nn.Module):
    """x + (window attention + fast weights), + feed-forward; a LayerNorm before each. Both read the same queries, keys and values.

    Args:
        dim: width; heads: of the attention; ffn: inner width of the feed-forward.
        left, right: window of the attention, frames.
        fast: of the fast weights; None = a layer without.
        dropout, activation: of the feed-forward.
    """

    def __init__(self, dim: int, heads: int, ffn: int, left: int, right: int = 0, fast: FastConfig | None = None, dropout: float = 0.0,
                 activation: str = "swiglu") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: {heads} does not divide dim {dim}")
        self.norm, self.ffn_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.window = WindowAttention(heads, left, right)
        self.fast = FastLayer(fast, dim) if fast is not None else None
        self.ffn = FeedForward(dim, ffn, dropout, activation)
        self.dropout = nn.Dropout(dropout)

    def initial(self, batch: int) -> tuple[Tensor, ...]:
        """What is carried before the first utterance: the tensors of FastWeights, or none."""
        return tuple(self.fast.initial(batch)) if self.fast is not None else ()

    def forward(self, x: Tensor, lengths: Tensor, carried: tuple[Tensor, ...],
                layout: Layout | None = None, learn_last: bool = True) -> tuple[Tensor, tuple[Tensor, ...]]:
        """x [B, T, D], lengths [B], carried: as `initial` → [B, T, D], carried. What padding holds does not matter."""
        y = self.norm(x)
        q, k, v = self.project(y).chunk(3, -1)
        near = self.window(q, k, v, lengths)
        if self.fast is not None:
            far, carried = self.fast(y, q, k, v, lengths_to_mask(lengths, x.shape[1]), FastWeights(*carried), layout,
                                     learn_last)
            near = near + far
        return self._finish(x, near), tuple(carried)

    def agreement(self, x: Tensor, lengths: Tensor, carried: tuple[Tensor, ...]) -> Tensor:
        """`FastLayer.agreement` of a layer that has fast weights: [B]."""
        assert self.fast is not None
        y = self.norm(x)
        return self.fast.agreement(y, *self.project(y).chunk(3, -1), lengths_to_mask(lengths, x.shape[1]), FastWeights(*carried))

    def init_state(self, x: Tensor, carried: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...]:
        """State before the first frame: keys, values; of a layer with fast weights also these and the open chunk's four tensors."""
        state = self.window.init_state(x)
        if self.fast is None:
            return state
        return *state, *(self.initial(len(x)) if carried is None else carried), *self.fast.init_stream(len(x))

    def stream(self, x: Tensor, state: tuple[Tensor, ...], *, final: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next frames [B, n, D] → the same of the output, and the state after them."""
        y = self.norm(x)
        q, k, v = self.project(y).chunk(3, -1)
        near, window = self.window.stream(q, k, v, (state[0], state[1]))
        if self.fast is None:
            return self._finish(x, near), window
        end = 2 + FastLayer.state_size
        far, weights, begun = self.fast.stream(y, q, k, v, FastWeights(*state[2:end]), state[end:], final=final)
        return self._finish(x, near + far), (*window, *weights, *begun)

    def _finish(self, x: Tensor, heard: Tensor) -> Tensor:
        x = x + self.dropout(self.output(heard))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))
