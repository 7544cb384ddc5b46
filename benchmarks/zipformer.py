"""A training step (forward + backward) of Zipformer with its convolutional front end, ours and icefall's, on the same machine.

    git clone https://github.com/k2-fsa/icefall
    python -m benchmarks.zipformer --icefall icefall [--size M --seconds 10 --batch 1 --threads 1 --pairs 10 --bf16]

Steps of the two alternate, so that whatever else the machine does meets both. Both have the same weights (their outputs in eval mode
are compared first), dropout and all regularizers on, and are at the same step of their schedules. Without --icefall only ours is timed.
Where k2 is not installed icefall's activations run on voxkit's functions, which are equivalent.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import random
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import Figures
from voxkit.encoders.zipformer import ConvSubsampling, Zipformer, ZipformerConfig, from_preset, set_batch_count
from voxkit.nn import swoosh
from voxkit.optional import available

NAMES = {"downsampling_factor": "downsampling_factor", "encoder_dim": "encoder_dim", "num_layers": "num_encoder_layers",
         "unmasked_dim": "encoder_unmasked_dim", "num_heads": "num_heads", "feedforward_dim": "feedforward_dim",
         "kernel": "cnn_module_kernel", "query_head_dim": "query_head_dim", "pos_head_dim": "pos_head_dim",
         "value_head_dim": "value_head_dim"}


def stand_in_for_k2() -> types.ModuleType:
    """The four functions of k2 that icefall's Zipformer calls, each twice."""
    module = types.ModuleType("k2")
    for kind in "LR":
        name = f"swoosh_{kind.lower()}"
        setattr(module, name, lambda x, kind=kind: swoosh.swoosh(x, kind))
        setattr(module, f"{name}_forward", lambda x, kind=kind: swoosh._value(x, kind))
        setattr(module, f"{name}_forward_and_deriv", lambda x, kind=kind: (swoosh._value(x, kind), swoosh._slope(x, kind)))
    return module


def load_icefall(path: Path) -> tuple[Any, Any]:
    """icefall's modules `zipformer` and `subsampling`, with stand-ins for what they import beside torch where it is missing.

    Raises:
        ValueError: no icefall at the path.
    """
    folder = next((f for f in (path, path / "egs/librispeech/ASR/zipformer") if (f / "scaling.py").is_file()), None)
    if folder is None:
        raise ValueError(f"no icefall at {path}: neither scaling.py nor egs/librispeech/ASR/zipformer/scaling.py is there")
    if available("k2"):
        print("icefall: swoosh functions of k2")
    else:
        sys.modules["k2"] = stand_in_for_k2()
        print("icefall: k2 is not installed, so voxkit's swoosh functions (forward, and forward with derivative) stand in for k2's")
    interface, utils = types.ModuleType("encoder_interface"), types.ModuleType("icefall.utils")
    interface.EncoderInterface = nn.Module  # type: ignore[attr-defined]
    utils.torch_autocast = lambda *args, enabled=True, **kw: torch.autocast("cpu", enabled=enabled)  # type: ignore[attr-defined]
    sys.modules.update({"encoder_interface": interface, "icefall": types.ModuleType("icefall"), "icefall.utils": utils})
    sys.path.insert(0, str(folder))
    return tuple(importlib.import_module(name) for name in ("zipformer", "subsampling"))  # type: ignore[return-value]


class Theirs(nn.Module):
    """icefall's front end and encoder."""

    def __init__(self, folder: Path, config: ZipformerConfig) -> None:
        super().__init__()
        zipformer, subsampling = load_icefall(folder)
        options = {theirs: tuple(getattr(config, ours)) for ours, theirs in NAMES.items()}
        self.encoder_embed = subsampling.Conv2dSubsampling(80, config.input_dim)
        self.encoder = zipformer.Zipformer2(pos_dim=config.pos_dim, **options)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x, lengths = self.encoder_embed(x, lengths)
        mask = torch.arange(x.shape[1])[None] >= lengths[:, None]
        return self.encoder(x.permute(1, 0, 2), lengths, mask)[0].permute(1, 0, 2)

    def set_step(self, step: int) -> None:
        for module in self.modules():
            if hasattr(module, "batch_count"):
                module.batch_count = step


class Ours(nn.Module):
    """voxkit's front end and encoder."""

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.front_end = ConvSubsampling(80, config.input_dim, isolate_padding=config.isolate_padding)
        self.encoder = Zipformer(config)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.encoder(*self.front_end(x, lengths))[0]

    def set_step(self, step: int) -> None:
        set_batch_count(self, step)

    def copy_weights(self, theirs: Theirs) -> None:
        path = Path(__file__).resolve().parents[1] / "tools" / "import_icefall.py"
        spec = importlib.util.spec_from_file_location("import_icefall", path)
        tool = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(tool)  # type: ignore[union-attr]
        weights = {tool.rename(name): value for name, value in theirs.state_dict().items()}
        self.load_state_dict({name.replace("front_end.subsampling.", "front_end."): value for name, value in weights.items()})


def timed(net: nn.Module, x: Tensor, lengths: Tensor, bf16: bool) -> float:
    """Seconds of one forward and backward pass."""
    context = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    started = time.perf_counter()
    with context:
        y = net(x, lengths)
    y.float().square().mean().backward()
    seconds = time.perf_counter() - started
    net.zero_grad(set_to_none=True)
    return seconds


def compare(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of both, measured in turn, each first in every other pair."""
    out: tuple[list[float], list[float]] = ([], [])
    for i in range(pairs):
        for which in ((0, 1) if i % 2 == 0 else (1, 0)):
            random.seed(i)
            torch.manual_seed(i)
            out[which].append((ours, theirs)[which]())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icefall", type=Path, help="a checkout of icefall, or its zipformer folder")
    parser.add_argument("--size", default="M", help="S, M or L")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=1, help="utterances; the last is a tenth shorter, for the masks")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--step", type=int, default=5000, help="of the schedules")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    Figures.add_argument(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = from_preset(options.size, isolate_padding=False)
    frames = int(100 * options.seconds)
    x, lengths = torch.randn(options.batch, frames, 80), torch.full((options.batch,), frames)
    if options.batch > 1:
        lengths[-1] = int(0.9 * frames)
    ours = Ours(config)
    theirs = Theirs(options.icefall, config) if options.icefall else None
    if theirs is not None:
        ours.copy_weights(theirs)
        with torch.no_grad():
            difference = (ours.eval()(x, lengths) - theirs.eval()(x, lengths))[:, :frames // 5].abs().max()
        print(f"largest difference of the outputs in eval mode: {difference:.1e}")
    nets = [net for net in (ours, theirs) if net is not None]
    for net in nets:
        net.train().set_step(options.step)
        timed(net, x, lengths, options.bf16)
    what = (f"Zipformer-{options.size}, forward + backward, {options.batch} x {options.seconds:g} s, {options.threads} thread(s), "
            f"{'bfloat16 autocast' if options.bf16 else 'float32'}, torch {torch.__version__}")
    if theirs is None:
        print(f"{what}: voxkit {statistics.median(timed(ours, x, lengths, options.bf16) for _ in range(options.pairs)):.3f} s")
        return
    one, two = compare(lambda: timed(ours, x, lengths, options.bf16), lambda: timed(theirs, x, lengths, options.bf16), options.pairs)
    ratios = sorted(a / b for a, b in zip(one, two))
    Figures("zipformer", options.json).add(f"voxkit against icefall, {options.size}, {options.seconds:g} s", [1 / r for r in ratios])
    print(f"{what}, {options.pairs} pairs")
    print(f"voxkit  {statistics.median(one):.3f} s (median)\nicefall {statistics.median(two):.3f} s (median)")
    print(f"voxkit / icefall, paired: median {statistics.median(ratios):.3f}, from {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()
