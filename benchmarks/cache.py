"""A training step with the frozen encoder's states read from the cache, and with the encoder run on the audio; the rest is the same.

    python -m benchmarks.cache --config egs/librispeech/voxformer/conf/mini_stage1.yaml [--steps 8 --threads 1] [key=value ...]

Steps of the two alternate (loading included), so that whatever else the machine does meets both; the ratio of their speeds is that of
the epochs' times. The cache is filled first where it is not, and the filling timed: it is paid once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.figures import Figures
from voxkit.batch import Batch
from voxkit.precision import autocast, resolve
from voxkit.run import Run
from voxkit.run_config import load_setup
from voxkit.train.distributed import World


def step(training: Run, batches: Iterator[Batch], dtype: torch.dtype) -> tuple[float, float, float]:
    """→ seconds of the step, of the audio, and the loss."""
    began = time.perf_counter()
    batch = next(batches)
    torch.manual_seed(0)
    with autocast(dtype, "cpu"):
        loss = training.model.loss(batch).total
    loss.backward()
    training.model.zero_grad(set_to_none=True)
    return time.perf_counter() - began, batch.seconds, float(loss.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    Figures.add_argument(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trainings = {}
    with tempfile.TemporaryDirectory() as scratch:
        for cache in ("true", "false"):
            setup = load_setup(args.config, [*args.overrides, f"cache={cache}", "data.speed_perturb=[1.0]", "data.dev=[]"])
            began = time.perf_counter()
            torch.manual_seed(0)
            trainings[cache] = Run(setup, Path(scratch), World())
            print(f"cache={cache}: ready after {time.perf_counter() - began:.1f} s")
            trainings[cache].model.train()
        dtype = resolve(setup.config.train.precision, "cpu", "train.precision")
        batches = {name: iter(training.reader.train) for name, training in trainings.items()}
        ratios = []
        for i in range(args.steps + 1):
            took, seconds, losses = {}, {}, {}
            for name in (("true", "false"), ("false", "true"))[i % 2]:
                took[name], seconds[name], losses[name] = step(trainings[name], batches[name], dtype)
            if i:  # the first one warms up
                speed = {name: seconds[name] / took[name] for name in took}
                ratios.append(speed["true"] / speed["false"])
                print(f"from audio {seconds['false']:5.1f} s in {took['false']:5.2f} s, {speed['false']:5.1f}x real time "
                      f"(loss {losses['false']:.3f}); cached {seconds['true']:5.1f} s in {took['true']:5.2f} s, "
                      f"{speed['true']:5.1f}x (loss {losses['true']:.3f}); ratio {ratios[-1]:.2f}")
    Figures("cache", args.json).add(f"cached states against the encoder, {Path(args.config).name}", ratios)
    ratios.sort()
    print(f"ratio: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}, of {len(ratios)} pairs; "
          f"{args.threads} thread(s), {dtype}")


if __name__ == "__main__":
    main()
