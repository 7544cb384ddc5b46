#!/usr/bin/env python3
"""What a generator remembers of a piece over silences that are longer than its windows' reach, counted.

    python local/recall.py exp/main exp/updates_off --data-dir data --sets test --out recall.json

Each piece is read from its beginning with the true codes (teacher forcing), and at every return of the motif but the first playing:

    timbre   the first frame's timbre, given its pitch                    chance 1 in 8
    tempo    how many frames the first note lasts: it is likelier to go   chance 1 in 3 (2, 3 or 4)
             on than not in all frames but the one where it ends
    key      the second note is of the piece's scale, whatever it is      chance about 7 in 12
    motif    notes 2 to 8, each where it begins, told that it is another  chance 1 in 23 (more where a key is known)

A piece counts once, by its share. Intervals are of the mean over pieces; differences between two runs are paired by piece.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from voxkit import files
from voxkit.data.corpora.pieces import NOTES, SCALE
from voxkit.data.reader import load_samples
from voxkit.data.sets import read_sets
from voxkit.eval.table import format_table
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.models.lact_audio import LaCTAudioGenerator

THINGS = ("timbre", "tempo", "key", "motif")


def recall(logits: torch.Tensor, codes: torch.Tensor, truth: dict) -> dict[str, float]:
    """Logits [T, 2, K] of a piece's codes [T, 2] → share of its returns at which each thing was right."""
    said, tempo = logits.argmax(-1), truth["tempo"]
    right: dict[str, list[bool]] = {thing: [] for thing in THINGS}
    for onset in truth["onsets"][1:]:
        right["timbre"].append(int(said[onset, 1]) == truth["timbre"])
        first = int(codes[onset, 0])
        stays = logits[onset + 1:onset + tempo + 1, 0].softmax(-1)[:, first] > 0.5
        right["tempo"].append(bool(stays[:-1].all()) and not bool(stays[-1]))
        for note in range(1, NOTES):
            at = onset + note * tempo
            others = logits[at, 0].clone()
            others[[0, int(codes[at - 1, 0])]] = float("-inf")
            guess = int(others.argmax())
            right["motif"].append(guess == truth["motif"][note])
            if note == 1:
                right["key"].append((guess - 1 - truth["root"]) % 12 in SCALE)
    return {thing: float(np.mean(hits)) for thing, hits in right.items()}


def measure(checkpoint: str, data_dir: str, sets: list[str]) -> dict[str, dict[str, float]]:
    """Piece → thing → share."""
    loaded, found = load_checkpoint(checkpoint), {}
    model = loaded.model
    if not isinstance(model, LaCTAudioGenerator):
        raise ValueError(f"{checkpoint} is no generator of audio")
    for cut in read_sets(data_dir, sets):
        codes = loaded.vocabulary.encode(torch.from_numpy(load_samples(cut)), 16_000)
        with torch.inference_mode():
            logits, _ = model.advance(codes[None], model.init_state(1))
        found[cut.id] = recall(logits[0], codes, cut.supervisions[0].custom)
    return found


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, low, high (95 %, pieces drawn again)."""
    drawn = np.random.default_rng(0).integers(len(values), size=(5000, len(values)))
    return float(values.mean()), *(float(x) for x in np.percentile(values[drawn].mean(1), [2.5, 97.5]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="runs; differences are of the first to each of the others")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--sets", nargs="+", default=["test"])
    parser.add_argument("--out", metavar="JSON")
    args = parser.parse_args()
    found = {run: measure(run, args.data_dir, args.sets) for run in args.runs}
    rows, first = [], found[args.runs[0]]
    for run, pieces in found.items():
        values = {thing: np.array([pieces[id][thing] for id in first]) for thing in THINGS}
        rows.append({"run": Path(run).name, **{thing: "{:.1%} ({:.1%} to {:.1%})".format(*interval(x)) for thing, x in values.items()}})
        if run != args.runs[0]:
            ahead = {thing: np.array([first[id][thing] for id in first]) - x for thing, x in values.items()}
            rows.append({"run": "  first - this",
                         **{thing: "{:+.1%} ({:+.1%} to {:+.1%})".format(*interval(x)) for thing, x in ahead.items()}})
    print(format_table(rows, title=f"recall at returns, {len(first)} pieces"))
    if args.out:
        files.write_text(args.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
