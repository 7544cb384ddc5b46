"""Large-chunk test-time training with SwiGLU fast weights (LaCT; Zhang et al. 2025, arXiv 2505.23884), written out plainly.

A sequence of frames carries a small network along, f(x) = w1 (silu(w0 x) ∘ (w2 x)), whose weights learn while they listen. After each chunk
of frames they take one step that makes f(k) point more along v,

    w_i  ←  normalize(w_i + ∇ Σ_t rate_i(t) · f(k_t)·v_t),

and what the layer gives out for a query is f(q). The rows of every matrix keep the length that they had at the start.

`lact_reference` is the loop one would write first: one sequence, one chunk at a time, gradients by autograd. `lact` in `lact_fast.py` does
the same on a batch, with the gradient in closed form. Published code knows no padding, and these rules are this file's own:

* a frame that is not valid has no part in the step, and the momentum gate of a chunk is the mean over its valid frames;
* a chunk without valid frames leaves weights and momentum as they are;
* Muon's step does not depend on the size of the gradient: it is scaled by the share of the chunk that is valid, and by a learned size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.ops.checks import check_shapes
from voxkit.ops.newton_schulz import FIVE_COEFFICIENTS, newton_schulz

ORDERS = ("apply_update", "update_apply", "bidirectional")
NORMS = ("post", "pre")
EPS = 1e-5  # added to a row's length before it is divided by: as published


class FastWeights(NamedTuple):
    """The state of N sequences (utterances × heads): a value, which goes into every call and comes out of it.

    Attributes:
        w0, w2: [N, h, d]; w1: [N, d, h].
        m0, m1, m2: momentum, like w0, w1, w2.
        n0, n2: [N, h, 1], n1: [N, d, 1], the length of each row.
    """

    w0: Tensor
    w1: Tensor
    w2: Tensor
    m0: Tensor
    m1: Tensor
    m2: Tensor
    n0: Tensor
    n1: Tensor
    n2: Tensor

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.w0, self.w1, self.w2


def start(w0: Tensor, w1: Tensor, w2: Tensor) -> FastWeights:
    """The state before the first frame: these weights, no momentum, and the rows' lengths as they are."""
    check_shapes({"w0": (w0, "Nhd"), "w1": (w1, "Ndh"), "w2": (w2, "Nhd")})
    weights = (w0, w1, w2)
    return FastWeights(*weights, *(torch.zeros_like(w) for w in weights), *(w.norm(dim=2, keepdim=True) for w in weights))


class Frames(NamedTuple):
    """What fast weights learn from, [N, L, ...].

    Attributes:
        k, v: [N, L, d] keys and values.
        rates: [N, L, 3] of w0, w1, w2.
        gate: [N, L] in [0, 1], how much momentum a frame lets through; None = no momentum.
        valid: [N, L] bool; None = every frame is. Invalid frames may lie anywhere and hold anything finite.
    """

    k: Tensor
    v: Tensor
    rates: Tensor
    gate: Tensor | None = None
    valid: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Frames:
        """The same function of every tensor that is there."""
        return Frames(*(None if x is None else function(x) for x in self))  # type: ignore[arg-type]

    def item(self, n: int) -> Frames:
        """Those of one sequence, [L, ...]."""
        return self.map(lambda x: x[n])

    def slice(self, begin: int, end: int) -> Frames:
        """Frames begin to end."""
        return self.map(lambda x: x[:, begin:end])


@dataclass(frozen=True)
class FastOptions:
    """Attributes:
    chunk: frames between two steps.
    keys: frames of `Frames` that belong to each chunk, where chunks learn from more than their own (overlap); 0 = `chunk`.
    order: apply_update: a chunk is read with the weights from before it (streaming, generation); update_apply: with those that have learned
        from it; bidirectional: all chunks are learned from before any is read.
    norm: post: what is carried has been normalized; pre: what is carried has not, and is normalized when it is applied.
    muon: make each step semi-orthogonal. muon_dtype: what to iterate in; None = the weights' own.
    """

    chunk: int = 64
    keys: int = 0
    order: str = "apply_update"
    norm: str = "post"
    muon: bool = False
    muon_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.keys not in (0, *range(self.chunk, self.keys + 1)):
            raise ValueError(f"chunk: {self.chunk} and keys: {self.keys}: a chunk has 1 frame or more, and as many keys or more")
        if self.order not in ORDERS:
            raise ValueError(f"order: {self.order!r} is none of {', '.join(ORDERS)}")
        if self.norm not in NORMS:
            raise ValueError(f"norm: {self.norm!r} is none of {', '.join(NORMS)}")


def swiglu(x: Tensor, w0: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    """w1 (silu(w0 x) ∘ (w2 x)): x [..., L, d] → [..., L, d]."""
    return (F.silu(x @ w0.mT) * (x @ w2.mT)) @ w1.mT


def normalized(weight: Tensor, lengths: Tensor) -> Tensor:
    """weight [..., M, N] with rows of the given lengths [..., M, 1]."""
    return weight / (weight.norm(dim=-1, keepdim=True) + EPS) * lengths


def lact_reference(q: Tensor, frames: Frames, state: FastWeights, options: FastOptions,
                   size: Tensor | None = None) -> tuple[Tensor, FastWeights]:
    """The plain loop; arguments and result as `lact`."""
    outputs, states = [], []
    for n in range(len(q)):
        out, after = _sequence(q[n], frames.item(n), [x[n] for x in state], options, None if size is None else size[n])
        outputs.append(out)
        states.append(after)
    return torch.stack(outputs), FastWeights(*(torch.stack(x) for x in zip(*states)))


def _sequence(q: Tensor, frames: Frames, state: list[Tensor], options: FastOptions, size: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    keys = options.keys or options.chunk
    count = max(-(-len(q) // options.chunk), -(-len(frames.k) // keys))
    outputs: list[Tensor] = []

    def apply(chunk: int) -> None:
        weights = [normalized(w, n) for w, n in zip(state[:3], state[6:])] if options.norm == "pre" else state[:3]
        outputs.append(swiglu(q[chunk * options.chunk:(chunk + 1) * options.chunk], *weights))

    for chunk in range(count):
        if options.order == "apply_update":
            apply(chunk)
        state = _step([None if x is None else x[chunk * keys:(chunk + 1) * keys] for x in frames], state, options, keys, size)
        if options.order == "update_apply":
            apply(chunk)
    if options.order == "bidirectional":
        for chunk in range(count):
            apply(chunk)
    return torch.cat(outputs) if outputs else q, state


def _step(chunk: list[Tensor | None], state: list[Tensor], options: FastOptions, keys: int, size: Tensor | None) -> list[Tensor]:
    """One chunk of one sequence: what its weights and momentum are after it."""
    k, v, rates, gate, valid = chunk
    assert k is not None and v is not None and rates is not None
    valid = torch.ones(len(k), dtype=torch.bool) if valid is None else valid
    if not valid.any():
        return state
    carried, momentum, lengths = state[:3], state[3:6], state[6:]
    read = [normalized(w, n) for w, n in zip(carried, lengths)] if options.norm == "pre" else carried
    # the gradient is of the weights as values, but what it is made of stays differentiable
    at = [w if w.requires_grad else w.detach().requires_grad_() for w in read]
    with torch.enable_grad():
        agreement = (swiglu(k[valid], *at) * v[valid]).sum(-1)
        steps = [torch.autograd.grad((rates[valid, i] * agreement).sum(), at[i], create_graph=True)[0] for i in range(3)]
    if gate is not None:
        steps = momentum = [g + gate[valid].mean() * m for g, m in zip(steps, momentum)]
    if options.muon:
        share = valid.sum() / keys * (1.0 if size is None else size)
        steps = [share * newton_schulz(g, coefficients=FIVE_COEFFICIENTS, dtype=options.muon_dtype) for g in steps]
    carried = [w + g for w, g in zip(carried, steps)]
    if options.norm == "post":
        carried = [normalized(w, n) for w, n in zip(carried, lengths)]
    return [*carried, *momentum, *lengths]
