"""CIF against FunASR's, forward and with gradients: `python -m benchmarks.cif`.

Batch 16 × 500 frames × 512, about 125 tokens each, on one CPU thread. FunASR's `cif` (a loop over frames) and `cif_v1` (prefix sums) are
called where funasr is installed (`pip install funasr`); else two stand-ins written here that do the same work the same way: one pass
over the frames with the partial sums of the whole batch kept, and differences of a running sum of the weighted frames. All contestants
are timed in turn, round after round, so that a busy machine slows them alike; the ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.figures import Figures
from voxkit.eval.table import format_table
from voxkit.ops.cif import cif, fire_counts


def frame_loop(frames: Tensor, weights: Tensor) -> Tensor:
    """One step per frame for the whole batch; what has gathered after every frame is kept, and the rows that fired picked at the end."""
    size, length, dim = frames.shape
    mass, vector = weights.new_zeros(size), frames.new_zeros(size, dim)
    masses, vectors = [], []
    for t in range(length):
        missing, mass = 1 - mass, mass + weights[:, t]
        masses.append(mass)
        fired = mass >= 1
        mass = torch.where(fired, mass - 1, mass)
        used = torch.where(fired, missing, weights[:, t])
        vector = vector + used[:, None] * frames[:, t]
        vectors.append(vector)
        vector = torch.where(fired[:, None], (weights[:, t] - used)[:, None] * frames[:, t], vector)
    fired, every = torch.stack(masses, 1) >= 1, torch.stack(vectors, 1)
    most = int(fired.sum(1).max())
    rows = [every[b, fired[b]] for b in range(size)]
    return torch.stack([torch.cat([row, row.new_zeros(most - len(row), dim)]) for row in rows])


def prefix_sums(frames: Tensor, weights: Tensor) -> Tensor:
    """Running sum of the weighted frames, read where a token ends; what the frame gives to the next token is moved over."""
    size, _, dim = frames.shape
    ends = weights.double().cumsum(1).float()
    whole = ends.floor()
    fired = whole.diff(dim=1, prepend=whole.new_zeros(size, 1)) > 0
    rest = ((ends - whole)[..., None] * frames)[fired]
    sums = (weights[..., None] * frames).cumsum(1)[fired] - rest
    counts = fired.sum(1)
    first = counts.cumsum(0) - counts
    before = sums.roll(1, 0)
    before = before.index_fill(0, first[counts > 0], 0.0)
    wanted = torch.arange(int(counts.max()))[None] < counts[:, None]
    return frames.new_zeros(size, int(counts.max()), dim).masked_scatter(wanted[..., None], sums - before)


def peers() -> tuple[str, dict[str, Callable[[Tensor, Tensor], Tensor]]]:
    """(who they are, functions): FunASR's own where installed, else the stand-ins."""
    try:
        theirs = importlib.import_module("funasr.models.paraformer.cif_predictor")
    except ImportError as error:
        return f"stand-ins for FunASR's ({error}; `pip install funasr` for its own)", {"cif": frame_loop, "cif_v1": prefix_sums}
    return "FunASR's own", {"cif": lambda x, w: theirs.cif(x, w, 1.0)[0], "cif_v1": lambda x, w: theirs.cif_v1(x, w, 1.0)[0]}


def timed(function: Callable[[Tensor, Tensor], Tensor], frames: Tensor, weights: Tensor, gradient: bool) -> tuple[float, Tensor]:
    """Seconds of one call, and its output."""
    frames, weights = frames.detach().requires_grad_(gradient), weights.detach().requires_grad_(gradient)
    began = time.perf_counter()
    with torch.set_grad_enabled(gradient):
        out = function(frames, weights)
        if gradient:
            out.square().sum().backward()
    return time.perf_counter() - began, out.detach()


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("batch", 16), ("frames", 500), ("dim", 512), ("tokens", 125), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=value)
    Figures.add_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    frames, weights = torch.randn(args.batch, args.frames, args.dim), torch.rand(args.batch, args.frames)
    weights *= (args.tokens + 0.25) / weights.sum(1, keepdim=True)
    who, others = peers()
    contestants = {"voxkit": lambda x, w: cif(x, w, fire_counts(w, 0.0)).vectors, **others}
    rows = []
    for gradient in (False, True):
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(args.rounds + 1):
            outputs = {}
            for name, function in contestants.items():
                seconds, outputs[name] = timed(function, frames, weights, gradient)
                times[name].append(seconds)
            for name, out in outputs.items():
                torch.testing.assert_close(out, outputs["voxkit"], rtol=1e-3, atol=1e-3, msg=lambda m, name=name: f"{name}: {m}")
        for name in contestants:
            ratios = [a / b for a, b in zip(times[name][1:], times["voxkit"][1:])]
            if name != "voxkit":
                Figures("cif", args.json).add(f"{'forward and backward' if gradient else 'forward'}, against {name} ({who.split(' (')[0]})",
                                              ratios)
            rows.append({"pass": "forward + backward" if gradient else "forward", "of": name,
                         "median ms": f"{1e3 * statistics.median(times[name][1:]):.1f}", "ratio": f"{statistics.median(ratios):.1f}",
                         "ratios": f"{min(ratios):.1f}-{max(ratios):.1f}"})
    print(format_table(rows, title=f"{args.batch} × {args.frames} × {args.dim}; peers: {who}"))


if __name__ == "__main__":
    main()
