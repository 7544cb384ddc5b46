"""Conditions of a session: one microphone, room, noise, line and voice for all of its utterances. Changes to waveforms, drawn once.

A model that is to adapt within a session must meet sessions that differ, and whose utterances agree. Each kind of change is drawn with its
own probability; whoever draws nothing speaks as recorded.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxkit.data.augment import add_noise, brief, load_samples, open_sounds, reverberate
from voxkit.data.session_config import ConditionConfig
from voxkit.rate import RATE


@dataclass(frozen=True)
class Condition:
    """What is changed in a session; None: nothing of that kind.

    Attributes:
        warp: factor of all frequencies; rir: index of an impulse response; noise: index of a noise and SNR in dB; gain: dB at 0, 1, 2, ...
            octaves above 62.5 Hz; line: name.
    """

    warp: float | None = None
    rir: int | None = None
    noise: tuple[int, float] | None = None
    gain: tuple[float, ...] | None = None
    line: str | None = None


class Conditions:
    """Draws conditions and puts utterances under them.

    Args:
        config: see ConditionConfig.

    Raises:
        ValueError: a folder or manifest that is not there, or has no audio in it.
    """

    def __init__(self, config: ConditionConfig) -> None:
        self.config = config
        self.noises = open_sounds(config.noise, "data.sessions.condition.noise") if config.noise_prob > 0 else []
        self.rirs = open_sounds(config.rir, "data.sessions.condition.rir") if config.rir_prob > 0 else []

    def draw(self, rng: random.Random) -> Condition:
        """The condition of a session."""
        c = self.config
        warp = rng.uniform(*c.warp) if rng.random() < c.warp_prob else None
        rir = rng.randrange(len(self.rirs)) if rng.random() < c.rir_prob else None
        noise = (rng.randrange(len(self.noises)), rng.uniform(*c.noise_snr)) if rng.random() < c.noise_prob else None
        gain = None
        if rng.random() < c.gain_prob:
            steps = [rng.gauss(0.0, c.gain_db / 2) for _ in range(8)]
            walk = np.cumsum(steps) - np.mean(np.cumsum(steps))
            gain = tuple(float(x) for x in walk)
        line = rng.choice(c.lines) if rng.random() < c.line_prob else None
        return Condition(warp, rir, noise, gain, line)

    def __call__(self, audio: np.ndarray, condition: Condition, rng: random.Random) -> tuple[np.ndarray, dict[str, str]]:
        """audio [S] at 16 kHz → [S'] (S' differs where the vocal tract does), and the sounds that could not be read (id → reason).

        Args:
            rng: of the utterance: where in a noise it lies.
        """
        failures: dict[str, str] = {}
        if condition.warp is not None:
            audio = warped(audio, condition.warp)
        if condition.rir is not None:
            response = self._read(self.rirs[condition.rir], failures)
            audio = audio if response is None else reverberate(audio, response)
        if condition.noise is not None:
            noise = self._read(self.noises[condition.noise[0]], failures)
            if noise is not None and len(noise):
                start = rng.randrange(len(noise))
                audio = add_noise(audio, np.take(noise, np.arange(start, start + len(audio)), mode="wrap"), condition.noise[1])
        if condition.gain is not None:
            audio = equalized(audio, condition.gain)
        if condition.line is not None:
            audio = over_line(audio, condition.line)
        peak = float(np.abs(audio).max(initial=0.0))
        return (audio / peak if peak > 1 else audio).astype(np.float32, copy=False), failures

    def _read(self, sound: Any, failures: dict[str, str]) -> np.ndarray | None:
        try:
            return load_samples(sound)
        except Exception as error:  # whatever a decoder raises: the file is named, counted, and the utterance stays as it was
            failures[sound.id] = brief(error)
            return None


def warped(audio: np.ndarray, factor: float) -> np.ndarray:
    """All frequencies times `factor`, by reading the samples so much faster: [S] → [S / factor]."""
    places = np.arange(max(1, int(len(audio) / factor))) * factor
    smooth = _filtered(audio, lambda f: f < RATE / 2 / max(factor, 1.0)) if factor > 1 else audio
    return np.interp(places, np.arange(len(audio)), smooth).astype(np.float32)


def equalized(audio: np.ndarray, gain: tuple[float, ...]) -> np.ndarray:
    """A gain in dB at each octave from 62.5 Hz, linear in between; as loud as before."""
    octaves = np.arange(len(gain))
    out = _filtered(audio, lambda f: 10 ** (np.interp(np.log2(np.maximum(f, 62.5) / 62.5), octaves, gain) / 20))
    before, after = (math.sqrt(float(np.mean(np.square(x, dtype=np.float64)))) for x in (audio, out))
    return out * np.float32(before / after) if after > 1e-10 else audio


def over_line(audio: np.ndarray, line: str) -> np.ndarray:
    """What comes out of a line, one of session_config.LINES."""
    if line == "telephone":
        return _filtered(audio, lambda f: (f >= 300) & (f <= 3400))
    if line == "low_rate":
        return _filtered(audio, lambda f: f <= 2700)
    compressed = np.sign(audio) * np.log1p(255 * np.abs(np.clip(audio, -1, 1))) / math.log(256)
    coarse = np.round(compressed * 127) / 127
    return (np.sign(coarse) * (np.exp(np.abs(coarse) * math.log(256)) - 1) / 255).astype(np.float32)


def _filtered(audio: np.ndarray, response: Any) -> np.ndarray:
    """Through a filter without delay: `response` gives the gain of each frequency in Hz."""
    size = len(audio) + RATE // 20  # room for what rings around the ends
    spectrum = np.fft.rfft(audio, size)
    return np.fft.irfft(spectrum * response(np.fft.rfftfreq(size, 1 / RATE)), size)[:len(audio)].astype(np.float32)
