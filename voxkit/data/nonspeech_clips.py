"""Clips of audio in which nobody speaks: made on the spot, or out of a folder of noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voxkit.audio.io import EXTENSIONS, AudioError, read_audio
from voxkit.data.corpora.synthesis import sounds
from voxkit.rate import RATE

MADE = ("silence", "white", "pink", "hum", "clicks")


def made(kind: str, seconds: float, seed: int = 0) -> Tensor:
    """Synthetic audio without speech: [S] at 16 kHz, peaks below 0.5.

    silence: zeros; white, pink: noise of equal power per hertz, per octave; hum: a low tone and its overtones over
    brown noise (both as the toy corpus has them);
    clicks: short bursts at random times. Levels are drawn between -50 and -20 dB.
    """
    if kind not in MADE:
        raise ValueError(f"kind {kind!r} is none of {', '.join(MADE)}")
    size = round(seconds * RATE)
    generator = torch.Generator().manual_seed(seed)
    if kind == "silence":
        return torch.zeros(size)
    noise = torch.randn(size, generator=generator)
    if kind in ("pink", "hum"):
        noise = torch.from_numpy(sounds.NOISES[kind](np.random.default_rng(seed), size)).float()
    elif kind == "clicks":
        places = torch.rand(size, generator=generator) < 2 / RATE  # two a second
        decay = torch.exp(-torch.arange(800) / 100.0) * torch.randn(800, generator=generator)
        noise = torch.nn.functional.conv1d(places.float()[None, None], decay.flip(0)[None, None], padding=799)[0, 0, :size]
    level = 10 ** (-(20 + 30 * float(torch.rand(1, generator=generator))) / 20)
    return (noise / noise.square().mean().sqrt().clamp(min=1e-6) * level).clamp(-0.5, 0.5)


def made_clips(minutes: float, seconds: float = 10.0) -> Iterator[tuple[str, str, Tensor]]:
    """(condition, id, audio [S]): so many minutes of each kind, in clips."""
    for kind in MADE:
        for n in range(max(1, round(minutes * 60 / seconds))):
            yield kind, f"{kind}-{n}", made(kind, seconds, seed=n)


def folder_clips(folder: str | Path, minutes: float, seconds: float = 10.0) -> Iterator[tuple[str, str, Tensor]]:
    """The audio of a folder, in clips of at most `seconds`; each subfolder is a condition, of which at most `minutes` are taken.

    Raises:
        ValueError: no audio there.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise ValueError(f"{folder}: no audio there; give a folder of recordings in which nobody speaks")
    taken: dict[str, float] = {}
    for path in files:
        parts = path.relative_to(folder).parts
        condition = parts[0] if len(parts) > 1 else folder.name
        if taken.get(condition, 0.0) >= 60 * minutes:
            continue
        try:
            audio, length = read_audio(path)
        except AudioError as error:
            print(f"left out: {error}")
            continue
        if length < 0.2:
            continue
        for n, part in enumerate(audio.split(round(seconds * RATE))):
            if len(part) < 0.2 * RATE or taken.get(condition, 0.0) >= 60 * minutes:
                continue
            taken[condition] = taken.get(condition, 0.0) + len(part) / RATE
            yield condition, f"{path.relative_to(folder)}-{n}", part
