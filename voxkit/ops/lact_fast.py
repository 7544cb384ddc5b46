"""Fast weights on a batch: what `lact_reference` (lact.py) computes, with the inner gradient in closed form and sequences side by side.

With g = w0 k, u = w2 k, a = silu(g) and e = w1ᵀ v, one column for each frame of a chunk,

    ∇w0 = Σ r0 (e ∘ u ∘ silu′(g)) kᵀ      ∇w2 = Σ r2 (e ∘ a) kᵀ      ∇w1 = Σ r1 v (a ∘ u)ᵀ

w0 and w2 are stacked, so that a chunk costs two products to be read and four to be learned from; the backward pass through the gradient
is written out too, keeps g, u and e, and needs eight.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.ops.checks import check_shapes
from voxkit.ops.lact import EPS, FastOptions, FastWeights, Frames
from voxkit.ops.newton_schulz import FIVE_COEFFICIENTS, newton_schulz


class _Stacked(NamedTuple):
    """The state as the loop has it: `w` is w0 over w2 [N, 2h, d], and so are m and n; `w1` [N, d, h] with m1 and n1."""

    w: Tensor
    w1: Tensor
    m: Tensor
    m1: Tensor
    n: Tensor
    n1: Tensor


def lact(q: Tensor, frames: Frames, state: FastWeights, options: FastOptions, size: Tensor | None = None, *,
         learn_last: bool = True) -> tuple[Tensor, FastWeights]:
    """Read q with fast weights that learn from `frames`, chunk by chunk.

    Args:
        q: [N, L, d] queries; N is utterances × heads.
        frames: keys, values, rates, momentum gate, validity. As long as q, or with `options.keys` as many for each chunk.
        state: weights, momentum and lengths of rows; in float32 or more whatever q is: the work is done in the state's type.
        options: chunk, order, norm, Muon.
        size: [N], of Muon's step; None = 1.
        learn_last: False, in order apply_update, spares the step of the last chunk: for who reads and does not carry on.

    Returns:
        [N, L, d] in q's type (where a frame is not valid it means nothing), and the state after the last frame, which the last chunk
        has entered even if it is short.

    Raises:
        ValueError: shapes that do not go together.
    """
    with _in_full(q.device.type):
        out, after, _ = _run(q, frames, state, options, size, None, True, learn_last)
    return out, after


def lact_stream(q: Tensor, frames: Frames, state: FastWeights, open_frames: Frames | None, options: FastOptions, size: Tensor | None = None,
                *, final: bool = False) -> tuple[Tensor, FastWeights, Frames | None]:
    """The next frames of a stream, any number of them.

    Args:
        open_frames: those of the chunk that has begun, from the call before; None at the start.
        final: the stream ends here: the open chunk is learned from.

    Returns:
        [N, L, d], the state, and the frames of the open chunk (None if there are none). Altogether this is what `lact` gives for
        the whole.

    Raises:
        ValueError: overlapping chunks, or an order other than apply_update in pieces that are not whole chunks: such a chunk can be read
            only when it has been heard.
    """
    if options.keys not in (0, options.chunk):
        raise ValueError("chunks that overlap do not stream: give options without keys")
    with _in_full(q.device.type):
        return _run(q, frames, state, options, size, open_frames, final)


def _in_full(device: str) -> contextlib.AbstractContextManager[Any]:
    """No autocast: fast weights keep their precision. A device without autocast (meta) has none to switch off."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()


def _run(q: Tensor, frames: Frames, state: FastWeights, options: FastOptions, size: Tensor | None, pending: Frames | None,
         final: bool, learn_last: bool = True) -> tuple[Tensor, FastWeights, Frames | None]:
    _check(q, frames, state, options)
    kind, (chunk, keys) = q.dtype, (options.chunk, options.keys or options.chunk)
    now = _Stacked(torch.cat((state.w0, state.w2), 1), state.w1, torch.cat((state.m0, state.m2), 1), state.m1,
                   torch.cat((state.n0, state.n2), 1), state.n1)
    dtype = now.w.dtype
    q = q.to(dtype)
    frames = frames.map(lambda x: x if x.dtype == torch.bool else x.to(dtype))
    if frames.valid is not None:
        frames = frames._replace(rates=frames.rates * frames.valid[..., None])
    begun = 0 if pending is None else pending.k.shape[1]
    if pending is not None:
        frames = _joined(pending, frames)
    if options.order != "apply_update" and (begun or not final and q.shape[1] % chunk):
        raise ValueError(f"order {options.order}: a chunk of {chunk} frames is read when it has been heard to its end, and pieces of "
                         f"{q.shape[1]} frames are not whole chunks; use order apply_update, or wait for whole chunks")
    total = begun + q.shape[1] if keys == chunk else -(-frames.k.shape[1] // keys) * chunk
    count = -(-total // chunk)
    borders = [min(max(at * chunk - begun, 0), q.shape[1]) for at in range(count + 1)]
    learned = _chunks(frames, keys)
    out = _Output(q)
    rest: Frames | None = None
    spared = count - 1 if not learn_last and options.order == "apply_update" else -1
    for at in range(count):
        if options.order == "apply_update":
            out.add(_apply(q[:, borders[at]:borders[at + 1]], now, options))
        if at == spared:
            break
        if final or (at + 1) * chunk <= total:
            now = _update(learned[at], now, options, keys, size)
        else:
            rest = frames.slice(at * keys, (at + 1) * keys)
        if options.order == "update_apply":
            out.add(_apply(q[:, borders[at]:borders[at + 1]], now, options))
    if options.order == "bidirectional":
        out.add(_apply(q, now, options))
    h = state.w0.shape[1]
    momentum = (state.m0, state.m1, state.m2) if frames.gate is None else (now.m[:, :h], now.m1, now.m[:, h:])
    after = FastWeights(now.w[:, :h], now.w1, now.w[:, h:], *momentum, state.n0, state.n1, state.n2)
    return out.whole().to(kind), after, rest


def _joined(before: Frames, after: Frames) -> Frames:
    """One behind the other. A piece in which every frame is valid may come before or after one with padding."""
    if before.valid is None and after.valid is not None:
        before = before._replace(valid=after.valid.new_ones(before.k.shape[:2]))
    elif before.valid is not None and after.valid is None:
        after = after._replace(valid=before.valid.new_ones(after.k.shape[:2]))
    return Frames(*(None if x is None or y is None else torch.cat((x, y), 1) for x, y in zip(before, after)))  # type: ignore[arg-type]


class _Output:
    """Pieces that become one tensor like q: joined where a backward pass needs them, else written where they belong, which spares an
    allocation for each (a tenth of the time on a CPU)."""

    def __init__(self, q: Tensor) -> None:
        self.pieces: list[Tensor] | None = [q[:, :0]] if torch.is_grad_enabled() else None
        self.out, self.end = q if self.pieces else torch.empty_like(q), 0

    def add(self, piece: Tensor) -> None:
        if self.pieces is not None:
            self.pieces.append(piece)
        else:
            self.out[:, self.end:self.end + piece.shape[1]] = piece
            self.end += piece.shape[1]

    def whole(self) -> Tensor:
        return self.out if self.pieces is None else torch.cat(self.pieces, 1)


class _Chunk(NamedTuple):
    """What one chunk has to teach: k, v [N, L, d]; kt, vt [N, d, L] the same; rates r0, r1, r2 [N, 1, L], 0 where a frame is not valid;
    gate [N, 1, 1], the mean over valid frames; heard [N], the number of valid frames, None = all."""

    k: Tensor
    v: Tensor
    kt: Tensor
    vt: Tensor
    r0: Tensor
    r1: Tensor
    r2: Tensor
    gate: Tensor | None
    heard: Tensor | None


def _chunks(frames: Frames, keys: int) -> list[_Chunk]:
    """Frames cut up once for the whole loop: a view each."""
    rates = frames.rates.mT.contiguous()  # time last, so that products with [N, h, L] run along it
    heard: list[Tensor | None] = [None] * -(-frames.k.shape[1] // keys)
    gates = list(heard)
    if frames.valid is not None:
        heard = [x.sum(1) for x in frames.valid.split(keys, 1)]
    if frames.gate is not None:
        sums = frames.gate if frames.valid is None else frames.gate * frames.valid
        gates = [(x.mean(1) if n is None else x.sum(1) / n.clamp(min=1))[:, None, None] for x, n in zip(sums.split(keys, 1), heard)]
    along = (x.split(keys, -1) for x in (frames.k.mT, frames.v.mT, *rates.split(1, 1)))
    return [_Chunk(*x) for x in zip(frames.k.split(keys, 1), frames.v.split(keys, 1), *along, gates, heard)]


def _apply(q: Tensor, now: _Stacked, options: FastOptions) -> Tensor:
    """f(q): [N, L, d]."""
    w, w1 = _readable(now, options)
    g, u = torch.bmm(w, q.mT).chunk(2, 1)
    return torch.bmm((F.silu(g) * u).mT, w1.mT)


def _readable(now: _Stacked, options: FastOptions) -> tuple[Tensor, Tensor]:
    return (_rescale(now.w, now.n), _rescale(now.w1, now.n1)) if options.norm == "pre" else (now.w, now.w1)


def _rescale(w: Tensor, lengths: Tensor) -> Tensor:
    return w * (lengths / (torch.linalg.vector_norm(w, dim=2, keepdim=True) + EPS))


def _update(chunk: _Chunk, now: _Stacked, options: FastOptions, keys: int, size: Tensor | None) -> _Stacked:
    """The state after a chunk."""
    read, read1 = _readable(now, options)
    m, m1 = now.m, now.m1
    if chunk.gate is not None:
        m, m1 = step, step1 = _step(m * chunk.gate, m1 * chunk.gate, read, read1, *chunk[:7])
    elif options.muon:
        step, step1 = _step(None, None, read, read1, *chunk[:7])
    else:
        w, w1 = _step(now.w, now.w1, read, read1, *chunk[:7])
    if options.muon:
        step, step1 = _orthogonal(step, step1, options)
        scale = (chunk.k.shape[1] if chunk.heard is None else chunk.heard) / keys * (1.0 if size is None else size)
        if isinstance(scale, Tensor):
            scale = scale.to(step.dtype)[:, None, None]
            w, w1 = torch.addcmul(now.w, step, scale), torch.addcmul(now.w1, step1, scale)
        else:
            w, w1 = torch.add(now.w, step, alpha=scale), torch.add(now.w1, step1, alpha=scale)
    elif chunk.gate is not None:
        w, w1 = now.w + step, now.w1 + step1
    if options.norm == "post":
        w, w1 = _rescale(w, now.n), _rescale(w1, now.n1)
    after = _Stacked(w, w1, m, m1, now.n, now.n1)
    if chunk.heard is None:
        return after
    any_heard = (chunk.heard > 0)[:, None, None]
    return _Stacked(*(torch.where(any_heard, a, b) if a is not b else a for a, b in zip(after, now)))


def _orthogonal(step: Tensor, step1: Tensor, options: FastOptions) -> tuple[Tensor, Tensor]:
    """All matrices of all sequences in one batch (each product of small matrices costs as much to begin as to do). w1's step is
    transposed where it has to be to fit the others', which changes nothing: it comes back transposed."""
    size, height, width = len(step), step.shape[1] // 2, step.shape[2]
    across = height != width
    every = torch.cat((step.view(2 * size, height, width), step1.mT if across else step1))
    every = newton_schulz(every, coefficients=FIVE_COEFFICIENTS, dtype=options.muon_dtype)
    last = every[2 * size:]
    return every[:2 * size].view(step.shape), last.mT if across else last


def _step(*given: Any) -> tuple[Tensor, Tensor]:
    """`_Gradient`, without its bookkeeping where nobody will ask for a backward pass."""
    return _Gradient.apply(*given) if torch.is_grad_enabled() else _Gradient.forward(None, *given)


class _Gradient(torch.autograd.Function):
    """base [N, 2h, d] and base1 [N, d, h] (None: zeros), weights w [N, 2h, d] (w0 over w2) and w1 [N, d, h], a chunk → base and base1 plus
    the gradients for w and w1."""

    @staticmethod
    def forward(ctx: Any, base: Tensor | None, base1: Tensor | None, w: Tensor, w1: Tensor, k: Tensor, v: Tensor, kt: Tensor, vt: Tensor,
                r0: Tensor, r1: Tensor, r2: Tensor) -> tuple[Tensor, Tensor]:
        gu, e = torch.bmm(w, kt), torch.bmm(w1.mT, vt)
        if ctx is not None:
            ctx.save_for_backward(w, w1, k, v, r0, r1, r2, gu, e)
        outer, hidden = _outer(gu, e, r0, r1, r2)
        if base is None or base1 is None:
            return torch.bmm(outer, k), torch.bmm(vt, hidden.mT)
        return torch.baddbmm(base, outer, k), torch.baddbmm(base1, vt, hidden.mT)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad1: Tensor) -> tuple[Tensor | None, ...]:
        w, w1, k, v, r0, r1, r2, gu, e = ctx.saved_tensors
        g, u = gu.chunk(2, 1)
        outer, hidden = _outer(gu, e, r0, r1, r2)
        x0, x2 = torch.bmm(grad, k.mT).chunk(2, 1)  # what reaches r0 (e ∘ u ∘ silu′(g)) and r2 (e ∘ a)
        x1 = torch.bmm(grad1.mT, v.mT)  # likewise r1 (a ∘ u)
        s = g.sigmoid()
        a = g * s
        slope = torch.lerp(a, s.new_ones(()), s)  # silu′ = s + a - a s
        bend = (s - s * s).mul_(2 + g - 2 * a)  # silu″ = s (1 - s) (2 + g - 2 a)
        to_slope, to_a, to_hidden = x0 * e * u, x2 * e, x1 * u
        grad_r0, grad_r1, grad_r2 = ((x * y).sum(1, keepdim=True) for x, y in ((to_slope, slope), (to_hidden, a), (to_a, a)))
        grad_g = (to_slope * r0).mul_(bend).add_(slope * (to_a * r2).addcmul_(to_hidden, r1))
        x0 = x0 * r0 * slope
        grad_gu = torch.cat((grad_g, (x0 * e).addcmul_(x1 * r1, a)), 1)
        grad_e = (x0 * u).addcmul_(x2 * r2, a)
        grad_k = torch.bmm(outer.mT, grad).baddbmm_(grad_gu.mT, w)
        grad_v = torch.bmm(hidden.mT, grad1.mT).baddbmm_(grad_e.mT, w1.mT)
        bases = (x if needed else None for x, needed in zip((grad, grad1), ctx.needs_input_grad))
        return *bases, torch.bmm(grad_gu, k), torch.bmm(v.mT, grad_e.mT), grad_k, grad_v, None, None, grad_r0, grad_r1, grad_r2


def _outer(gu: Tensor, e: Tensor, r0: Tensor, r1: Tensor, r2: Tensor) -> tuple[Tensor, Tensor]:
    """→ [N, 2h, L]: r0 e ∘ u ∘ silu′(g) over r2 e ∘ a, and [N, h, L]: r1 a ∘ u."""
    g, u = gu.chunk(2, 1)
    s = g.sigmoid()
    out = torch.empty_like(gu)
    upper, a = out.chunk(2, 1)
    torch.mul(g, s, out=a)
    hidden = a * u
    torch.lerp(hidden, u, s, out=upper).mul_(e).mul_(r0)  # u ∘ silu′(g) first, for silu′ = s + a - a s
    a.mul_(e).mul_(r2)
    return out, hidden.mul_(r1)


def _check(q: Tensor, frames: Frames, state: FastWeights, options: FastOptions) -> None:
    given: dict[str, tuple[Tensor, str]] = {"q": (q, "NQd"), "k": (frames.k, "NLd"), "v": (frames.v, "NLd"), "rates": (frames.rates, "NLr"),
                                            "w0": (state.w0, "Nhd"), "w1": (state.w1, "Ndh"), "w2": (state.w2, "Nhd")}
    given |= {name: (x, "NL") for name, x in (("gate", frames.gate), ("valid", frames.valid)) if x is not None}
    check_shapes(given, r=3)
    if options.keys in (0, options.chunk) and q.shape[1] != frames.k.shape[1]:
        raise ValueError(f"{q.shape[1]} queries and {frames.k.shape[1]} keys: without overlap there is one key for each query")
