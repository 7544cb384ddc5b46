"""Pieces of music whose truth is known: each has a timbre, a tempo, a key and a motif of eight notes that returns after long silences.

    voxkit prepare pieces --out data --max-duration 70

gives train, dev and test, every piece as long as `--seconds`. What a generator has to remember over a silence is in each cut's
supervision (`custom`): timbre 1-8, tempo in frames of 80 ms for a note, root 0-11 of the major scale, the motif's pitches, and the frames
where it begins. Pieces are the sound of voxkit.codecs.tones, which reads the codes out of it again without error.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxkit.data.validate import Checks, Preparation
from voxkit.rate import RATE

FRAME = 1280  # samples of a frame of the codec of tones
SCALE = (0, 2, 4, 5, 7, 9, 11)
TEMPI = (2, 3, 4)
NOTES = 8
_VERSION = 1


@dataclass
class PiecesConfig:
    """Attributes: seed: another one is another corpus; num_train, num_dev, num_test: pieces; seconds: of each; gap_low, gap_high: frames
    between two returns of the motif."""

    seed: int = 0
    num_train: int = 240
    num_dev: int = 16
    num_test: int = 48
    seconds: float = 60.0
    gap_low: int = 40
    gap_high: int = 56

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)}, and must be at least 1" for name in ("num_train", "num_dev", "num_test", "gap_low")
                 if getattr(self, name) < 1]
        if self.gap_high < self.gap_low:
            found.append(f"gap_high: {self.gap_high} is below gap_low, {self.gap_low}")
        least = 2 * max(TEMPI) * NOTES + self.gap_high
        if self.seconds * RATE / FRAME < least:
            found.append(f"seconds: {self.seconds} leave no room for a motif that returns; at least {least * FRAME / RATE:.1f}")
        return found


@dataclass
class Piece:
    """Codes [T, 2] of pitch and timbre, and the truth: timbre, tempo, root, motif, and `onsets`, the frames where the motif begins."""

    codes: np.ndarray
    timbre: int
    tempo: int
    root: int
    motif: list[int]
    onsets: list[int]


def compose(config: PiecesConfig, split: str, index: int) -> Piece:
    """A piece; always the same for the same arguments."""
    rng = random.Random(f"{config.seed}/{split}/{index}")
    timbre, tempo, root = rng.randint(1, 8), rng.choice(TEMPI), rng.randrange(12)
    pitches = [1 + (root + step) % 12 + 12 * octave for step in SCALE for octave in (0, 1)]
    motif: list[int] = []
    while len(motif) < NOTES:
        motif.append(rng.choice([pitch for pitch in pitches if not motif or pitch != motif[-1]]))
    size = round(config.seconds * RATE / FRAME)
    codes, onsets, at = np.zeros((size, 2), dtype=np.int64), [], rng.randint(2, 8)
    while at + tempo * NOTES <= size:
        onsets.append(at)
        codes[at:at + tempo * NOTES, 0] = np.repeat(motif, tempo)
        codes[at:at + tempo * NOTES, 1] = timbre
        at += tempo * NOTES + rng.randint(config.gap_low, config.gap_high)
    return Piece(codes, timbre, tempo, root, motif, onsets)


def sound(codes: np.ndarray) -> np.ndarray:
    """Codes [T, 2] → samples [T · 1280], as the codec of tones decodes them."""
    time, out = np.arange(FRAME) / FRAME, np.zeros((len(codes), FRAME))
    for row, (pitch, timbre) in zip(out, codes):
        if pitch:
            loud = [1.0, *(0.6 if (timbre - 1) >> place & 1 else 0.1 for place in (2, 1, 0))]
            row += 0.2 * sum(level * np.sin(2 * np.pi * k * (16 + pitch) * time) for k, level in enumerate(loud, 1))
    return out.reshape(-1).astype(np.float32)


def prepare_pieces(out: str | os.PathLike, config: PiecesConfig | None = None, *, checks: Checks | None = None) -> Preparation:
    """Make the corpus under `out`, unless it is there: audio/<split>/<id>.flac and cuts.

    Raises:
        ValueError: options out of range.
    """
    config, checks = config or PiecesConfig(), checks or Checks(max_duration=70.0)
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    preparation = Preparation(out, "pieces", checks, {"version": _VERSION, **asdict(config)})
    for split, count in (("train", config.num_train), ("dev", config.num_dev), ("test", config.num_test)):
        if not preparation.done(split):
            preparation.begin(split)
            preparation.finish(split, _cuts(config, split, count, out / "audio" / split))
    return preparation


def _cuts(config: PiecesConfig, split: str, count: int, folder: Path) -> Iterator[Any]:
    import soundfile
    from lhotse import Recording, SupervisionSegment

    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        piece, id = compose(config, split, index), f"{split}-{index:04d}"
        path = folder / f"{id}.flac"
        soundfile.write(path, sound(piece.codes), RATE)
        cut = Recording.from_file(path, recording_id=id).to_cut()
        truth = {name: getattr(piece, name) for name in ("timbre", "tempo", "root", "motif", "onsets")}
        cut.id = id
        cut.supervisions = [SupervisionSegment(id, id, 0, cut.duration, text="piece", speaker=id, custom=truth)]
        yield cut


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare pieces`; returns what runs them."""
    for name, default in asdict(PiecesConfig()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"default {default}")
    return lambda args, checks: prepare_pieces(args.out, PiecesConfig(**{name: getattr(args, name) for name in asdict(PiecesConfig())}),
                                               checks=checks)
