"""A stand-in for a frozen encoder, and audio for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

WIDTH = 6


class Encoder:
    """Three states of every 160 samples; counts what it was asked to encode."""

    def __init__(self, gain: float = 1.0):
        self.gain, self.calls, self.utterances = gain, 0, 0

    def __call__(self, audio, lengths):
        assert audio.dtype == torch.float32 and torch.is_inference_mode_enabled()
        self.calls += 1
        self.utterances += len(lengths)
        frames = lengths // 160
        chunks = audio[:, : int(frames.max()) * 160].unflatten(1, (-1, 160))
        x = self.gain * chunks[..., :WIDTH]
        return torch.stack([x, 2 * x, 3 * x], dim=1), frames


def write(folder: Path, name: str, samples: int, seed: int, rate: int = 16000) -> Path:
    path = folder / f"{name}.wav"
    soundfile.write(path, 0.3 * np.random.default_rng(seed).standard_normal(samples).clip(-3, 3), rate, subtype="FLOAT")
    return path
