"""Pictures: curves of metrics.json, weights of the layer mix, what a decoder attended to, where its tokens are. Matplotlib is optional and
draws to files only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxkit.checkpoint.runs import find_run_dir
from voxkit.checkpoint.weights import read_weights
from voxkit.config import load_plain
from voxkit.files import writing
from voxkit.optional import require
from voxkit.train.logging import read_metrics

# parts of the loss and their lines, drawn thin where a run has them
PARTS: dict[str, Any] = {
    "ctc": ":", "attention": "-.", "cross_entropy": "-.", "quantity": (0, (1, 3)), "boundary": (0, (5, 5)),
    "intermediate": (0, (3, 1, 1, 1)), "consistency": (0, (5, 1)), "transducer": (0, (1, 1)), "mwer": (0, (3, 5, 1, 5)),
}


def find_run(path: str | os.PathLike) -> Path:
    """The run directory that a path means: itself, or for `exp/stage1` the newest `exp/<date_time>_stage1`.

    Raises:
        ValueError: none there; the message says what is. Or one without metrics.json.
    """
    run = find_run_dir(path)
    if not (run / "metrics.json").is_file():
        raise ValueError(f"no metrics.json in {run}: it is no run directory, or training has not begun")
    return run


def plot_curves(runs: Sequence[str | os.PathLike], out: str | os.PathLike, *, overlay: bool = False, title: str = "") -> Path:
    """Loss, word error rate on dev and learning rate by step, as one PNG.

    Args:
        runs: run directories; by default the stages of one training, one after the other.
        out: written atomically.
        overlay: all begin at step 0, to compare.

    Raises:
        ValueError: a path without metrics; MissingPackage: matplotlib is not installed.
    """
    figure = _figure(8, 8)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.3])
    offset = 0
    for index, path in enumerate(runs):
        run = find_run(path)
        records = read_metrics(run / "metrics.json")
        color, label = f"C{index % 10}", run.name
        if not overlay and index:
            for axis in axes:
                axis.axvline(offset, color="0.7", linewidth=0.8, zorder=0)
        _draw(axes, records, offset, color, label, parts=not overlay)
        if not overlay:
            offset += max((r.get("step", 0) for r in records), default=0)
    for axis, name in zip(axes, ("loss", "WER on dev (%)", "learning rate")):
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[1].set_ylim(bottom=0)
    axes[2].set_xlabel("step")
    axes[0].legend(fontsize=8)
    axes[0].set_title(title)
    return _save(figure, out)


def plot_mix(checkpoint: Path, out: str | os.PathLike) -> Path:
    """The learned weights of a checkpoint's layer mix, as one PNG.

    Raises:
        ValueError: a model without layer mix; MissingPackage: matplotlib is not installed.
    """
    weights = mix_weights(checkpoint)
    figure = _figure(max(4.0, 0.4 * len(weights) + 2), 3.2)
    axis = figure.subplots()
    axis.bar(range(len(weights)), list(weights.values()))
    axis.axhline(1 / len(weights), color="0.5", linewidth=0.8, linestyle="--", label="equal")
    axis.set_xticks(range(len(weights)), [str(state) for state in weights])
    axis.set_xlabel("state of the pretrained encoder (0 = what enters layer 1)")
    axis.set_ylabel("weight")
    axis.legend(fontsize=8)
    return _save(figure, out)


def mix_weights(checkpoint: Path) -> dict[int, float]:
    """State of the pretrained encoder → its weight in the mix; they sum to one.

    Raises:
        ValueError: the model has no layer mix.
    """
    state = read_weights(checkpoint, "auto")
    if "front_end.mix.logits" not in state:
        raise ValueError(f"{checkpoint}: the model has no layer mix; only a pretrained front end has one")
    logits = state["front_end.mix.logits"].double().numpy()
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    chosen = load_plain(checkpoint / "config.yaml").model.front_end.pretrained.get("states") or range(len(weights))
    return {int(i): float(w) for i, w in zip(sorted(chosen), weights)}


def plot_attention(weights: np.ndarray, tokens: Sequence[str], seconds_per_frame: float, out: str | os.PathLike, *, layer: int = -1,
                   title: str = "") -> Path:
    """Cross-attention of one layer, a panel per head, as one PNG.

    Args:
        weights: [layers, H, U, T]; tokens: U names.
        layer: which, from 0; -1 is the last.

    Raises:
        ValueError: no token, or a layer that is not there; MissingPackage: matplotlib is not installed.
    """
    if weights.ndim != 4 or weights.shape[2] != len(tokens):
        raise ValueError(f"attention {list(weights.shape)} is not [layers, heads, {len(tokens)} tokens, frames]")
    if not len(tokens):
        raise ValueError("no token was recognized: there is no attention to draw")
    if not -len(weights) <= layer < len(weights):
        raise ValueError(f"--layer {layer}: the decoder has {len(weights)} layers, 0 to {len(weights) - 1}")
    heads = weights[layer]
    figure = _figure(9, max(1.2, 0.16 * len(tokens)) * len(heads) + 0.8)
    axes = np.atleast_1d(figure.subplots(len(heads), 1, sharex=True))
    for number, (axis, head) in enumerate(zip(axes, heads)):
        axis.imshow(head, aspect="auto", origin="upper", interpolation="nearest", cmap="magma", vmin=0.0,
                    extent=(0, head.shape[1] * seconds_per_frame, len(tokens) - 0.5, -0.5))
        axis.set_yticks(range(len(tokens)), tokens, fontsize=7)
        axis.set_ylabel(f"head {number}")
    axes[-1].set_xlabel("seconds")
    axes[0].set_title(title)
    return _save(figure, out)


def plot_alignment(features: np.ndarray, curve: np.ndarray, fires: Sequence[float], words: Sequence[Any], seconds_per_frame: float,
                   out: str | os.PathLike, *, true: Sequence[Any] = (), label: str = "CIF weight", title: str = "") -> Path:
    """Features, the curve that tells where tokens are, and the words found (and true), over one axis of seconds, as one PNG.

    Args:
        features: [T, F] at 100 frames/s.
        curve: [T'] at `seconds_per_frame`; label: what it is.
        fires: seconds where tokens end; empty where the model has none.
        words, true: with word, start and end in seconds.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    figure = _figure(9, 6)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1.2 if true else 0.7])
    top.imshow(features.T, aspect="auto", origin="lower", interpolation="nearest", cmap="viridis",
               extent=(0, len(features) / 100, 0, features.shape[1]))
    top.set_ylabel("bin")
    middle.plot((np.arange(len(curve)) + 0.5) * seconds_per_frame, curve, color="C0", label=label)
    for place in fires:
        middle.axvline(place, color="C3", linewidth=0.8, alpha=0.7)
    middle.set_ylabel(label)
    for row, (name, items, color) in enumerate((("found", words, "C0"), ("true", true, "C2"))):
        for word in items:
            bottom.barh(row, word.end - word.start, left=word.start, height=0.8, color=color, alpha=0.35, edgecolor=color)
            bottom.text((word.start + word.end) / 2, row, word.word, ha="center", va="center", fontsize=8)
        if items or name == "found":
            bottom.set_yticks(range(row + 1), ["found", "true"][:row + 1])
    bottom.invert_yaxis()
    bottom.set_xlabel("seconds")
    top.set_title(title)
    return _save(figure, out)


def _draw(axes: Any, records: list[dict[str, Any]], offset: int, color: str, label: str, parts: bool) -> None:
    def line(axis: Any, kind: str, key: str, scale: float = 1.0, **style: Any) -> None:
        points = [(r["step"] + offset, scale * r[key]) for r in records if r.get("kind") == kind and isinstance(r.get(key), (int, float))]
        if points:
            axis.plot(*zip(*points), **style)

    line(axes[0], "train", "loss", color=color, label=label)
    line(axes[0], "validation", "loss", color=color, linestyle="--", marker="o", markersize=3, label=f"{label}, dev")
    for part, style in PARTS.items() if parts else ():
        named = part in axes[0].get_legend_handles_labels()[1]  # by a run before this one
        line(axes[0], "train", part, color=color, linestyle=style, linewidth=0.7, alpha=0.7, label=None if named else part)
    line(axes[1], "validation", "wer", 100.0, color=color, marker="o", markersize=3, label=label)
    line(axes[2], "train", "lr", color=color)


def _figure(width: float, height: float) -> Any:
    require("matplotlib", "plot", why="voxkit plot")
    from matplotlib.figure import Figure  # no pyplot: it would choose a window system

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, out: str | os.PathLike) -> Path:
    """PNG under a temporary name, then renamed."""
    out = Path(out)
    if out.suffix != ".png":
        raise ValueError(f"{out}: pictures are written as PNG; give a name that ends in .png")
    with writing(out, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
    return out
