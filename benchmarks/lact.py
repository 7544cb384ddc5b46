"""Fast weights against the published operator and against attention: `python -m benchmarks.lact [--peer PATH] [--gradient]`.

--peer names the `ttt_operation.py` of the authors' repository (lact_llm/lact_model); without it a stand-in written here does the same work
in the same way: each matrix for itself, scaled by the rates on one side, outputs written into one tensor, orthogonal steps in bfloat16.
Times are CPU time of one thread, the contestants in turn, round after round; ratios are medians over the rounds. With Muon both iterate in
bfloat16 (--muon-dtype float32 makes ours exact). Outputs are compared before anything is timed.

Then where fast weights cross full attention: one layer's operator against scaled_dot_product_attention, by length and width.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.figures import Figures
from voxkit.eval.table import format_table
from voxkit.ops.lact import FastOptions, Frames, start
from voxkit.ops.lact_fast import lact
from voxkit.ops.newton_schulz import FIVE_COEFFICIENTS

WIDTH = 512  # of all heads together
Given = tuple[Tensor, ...]  # w0, w1, w2, q, k, v, lr0, lr1, lr2


def orthogonal(x: Tensor) -> Tensor:
    """Five iterations in bfloat16, the smaller side first."""
    tall, y = x.shape[1] > x.shape[2], x.bfloat16()
    y = y.mT if tall else y
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in FIVE_COEFFICIENTS:
        gram = y @ y.mT
        y = a * y + (b * gram + c * gram @ gram) @ y
    return y.mT if tall else y


def stand_in(w0: Tensor, w1: Tensor, w2: Tensor, q: Tensor, k: Tensor, v: Tensor, lr0: Tensor, lr1: Tensor, lr2: Tensor, chunk_size: int,
             use_muon: bool) -> Tensor:
    """Apply, then update, chunk by chunk; the last chunk is only applied to."""
    lengths = [w.norm(dim=2, keepdim=True) for w in (w0, w1, w2)]
    q, v = q.mT, v.mT
    out, end = torch.zeros_like(v), 0
    for begin in range(0, k.shape[1] - chunk_size, chunk_size):
        end = begin + chunk_size
        keys, values, queries = k[:, begin:end], v[:, :, begin:end], q[:, :, begin:end]
        out[:, :, begin:end] = torch.bmm(w1, F.silu(torch.bmm(w0, queries)) * torch.bmm(w2, queries))
        gate, up = torch.bmm(w0, keys.mT), torch.bmm(w2, keys.mT)
        hidden, back = F.silu(gate) * up, torch.bmm(w1.mT, values)
        to_up, to_act, sigmoid = back * F.silu(gate), back * up, torch.sigmoid(gate)
        to_gate = to_act * sigmoid * (1 + gate * (1 - sigmoid))
        steps = [torch.bmm(to_gate, keys * lr0[:, begin:end]), torch.bmm(values, hidden.mT * lr1[:, begin:end]),
                 torch.bmm(to_up, keys * lr2[:, begin:end])]
        if use_muon:
            steps = [orthogonal(step) for step in steps]
        w0, w1, w2 = (w + step for w, step in zip((w0, w1, w2), steps))
        w0, w1, w2 = (w / (w.norm(dim=2, keepdim=True) + 1e-5) * n for w, n in zip((w0, w1, w2), lengths))
    out[:, :, end:] = torch.bmm(w1, F.silu(torch.bmm(w0, q[:, :, end:])) * torch.bmm(w2, q[:, :, end:]))
    return out.mT


def published(path: Path) -> Callable[..., Tensor]:
    """`block_causal_lact_swiglu` of the authors' file.

    Raises:
        ValueError: no such file, or no such function in it.
    """
    path = path / "ttt_operation.py" if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"--peer {path}: no such file; it is lact_llm/lact_model/ttt_operation.py of the authors' repository")
    spec = importlib.util.spec_from_file_location("ttt_operation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ttt_operation"] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "block_causal_lact_swiglu"):
        raise ValueError(f"--peer {path}: there is no block_causal_lact_swiglu in it")
    return module.block_causal_lact_swiglu


def ours(given: Given, chunk: int, muon: bool, dtype: torch.dtype | None) -> Tensor:
    """The same by voxkit."""
    w0, w1, w2, q, k, v, *rates = given
    options = FastOptions(chunk, muon=muon, muon_dtype=dtype)
    return lact(q, Frames(k, v, torch.cat(rates, -1)), start(w0, w1, w2), options, learn_last=False)[0]  # nor does the peer learn from it


def random_inputs(length: int, head: int) -> Given:
    """Unit queries and keys, rates about 0.05."""
    draw, count = torch.Generator().manual_seed(0), WIDTH // head
    weights = [torch.randn(count, head, head, generator=draw) / math.sqrt(head) for _ in range(3)]
    q, k = (F.normalize(torch.randn(count, length, head, generator=draw), dim=-1) for _ in range(2))
    v = torch.randn(count, length, head, generator=draw)
    return *weights, q, k, v, *(0.1 * torch.rand(count, length, 1, generator=draw) for _ in range(3))


def timed(function: Callable[[Given], Tensor], given: Given, gradient: bool) -> float:
    """CPU seconds of one call."""
    given = tuple(x.detach().requires_grad_(gradient) for x in given)
    began = time.process_time()
    with torch.set_grad_enabled(gradient):
        out = function(given)
        if gradient:
            out.square().sum().backward()
    return time.process_time() - began


def against_peer(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Ratios over lengths, chunks, Muon and heads; the geometric mean last."""
    peer = published(args.peer) if args.peer else stand_in
    dtype = getattr(torch, args.muon_dtype)
    rows, logs = [], []
    for head in args.heads:
        for length in args.lengths:
            given = random_inputs(length, head)
            for chunk in args.chunks:
                for muon in (False, True):
                    def theirs(x: Given, chunk: int = chunk, muon: bool = muon) -> Tensor:
                        return peer(*x, chunk_size=chunk, use_muon=muon)

                    def own(x: Given, chunk: int = chunk, muon: bool = muon) -> Tensor:
                        return ours(x, chunk, muon, dtype)

                    with torch.no_grad():  # steps in bfloat16 drift apart: what is read after the first one is compared
                        a, b = (function(given)[:, :2 * chunk if muon else length] for function in (own, theirs))
                    error = float((a - b).norm() / b.norm())
                    assert error < (0.2 if muon else 1e-4), f"they do not compute the same: {error:.1e} (head {head}, chunk {chunk})"
                    pairs = [(timed(theirs, given, args.gradient), timed(own, given, args.gradient)) for _ in range(args.rounds)]
                    ratios = [x / y for x, y in pairs]
                    ratio = statistics.median(ratios)
                    Figures("lact", args.json).add(f"head {head}, length {length}, chunk {chunk}{', Muon' if muon else ''}"
                                                   f"{', gradient' if args.gradient else ''}, against {peer.__name__}", ratios)
                    logs.append(math.log(ratio))
                    rows.append({"head": head, "length": length, "chunk": chunk, "Muon": "yes" if muon else "no",
                                 "peer ms": f"{1e3 * statistics.median(x for x, _ in pairs):.1f}",
                                 "voxkit ms": f"{1e3 * statistics.median(y for _, y in pairs):.1f}", "ratio": f"{ratio:.2f}"})
    rows.append({"head": "geometric mean", "ratio": f"{math.exp(statistics.mean(logs)):.2f}"})
    return rows


def against_attention(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of the operator and of full attention by width and length, and the growth exponent of the operator."""
    rows = []
    for width in (256, 512):
        heads, times = width // 64, []
        for length in (500, 1000, 1500, 2000, 3000, 6000, 15000):
            q, k, v = (torch.randn(1, heads, length, 64) for _ in range(3))
            w = [torch.randn(heads, 64, 64) / 8 for _ in range(3)]
            rates = torch.full((heads, length, 3), 0.1)
            contest = {"LaCT": partial(lact, q[0], Frames(F.normalize(k[0], dim=-1), v[0], rates), start(*w), FastOptions(64)),
                       "attention": partial(F.scaled_dot_product_attention, q, k, v, is_causal=True)}
            found: dict[str, list[float]] = {name: [] for name in contest}
            for _ in range(max(2, args.rounds // 2)):
                for name, function in contest.items():
                    began = time.process_time()
                    with torch.no_grad():
                        function()
                    found[name].append(time.process_time() - began)
            best = {name: min(values) for name, values in found.items()}
            times.append((length, best["LaCT"]))
            rows.append({"width": width, "frames": length, **{f"{name} ms": f"{1e3 * value:.1f}" for name, value in best.items()},
                         "faster": min(best, key=best.__getitem__)})
        (short, first), (long, last) = times[0], times[-1]
        rows.append({"width": width, "frames": f"exponent {math.log(last / first) / math.log(long / short):.2f}"})
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="the published ttt_operation.py, or its folder")
    parser.add_argument("--gradient", action="store_true", help="time forward and backward")
    parser.add_argument("--muon-dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--heads", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--skip-attention", action="store_true")
    Figures.add_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    who = "the published operator" if args.peer else "a stand-in for the published operator"
    print(format_table(against_peer(args), title=f"{WIDTH} wide, one thread, CPU time; peer: {who}"))
    if not args.skip_attention:
        print(format_table(against_attention(args), title="one layer's operator (chunk 64) and causal attention, heads of 64"))


if __name__ == "__main__":
    main()
