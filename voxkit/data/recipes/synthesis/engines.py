"""Speech synthesisers by name, all small, offline once installed, and many times faster than real time on one core:

    hibari          a distilled Kokoro voice, the most natural here (`heart`; hibari:emma and others are downloaded on first use)
    pico:en-US      SVOX Pico, and pico:en-GB
    espeak          espeak-ng's formants; as many speakers as are wanted, robotic (`voices.timbre`)
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from voxkit.data.recipes.synthesis import espeak
from voxkit.data.recipes.synthesis.voices import ACCENTS, timbre
from voxkit.optional import require

PICO_VOICES = ("en-US", "en-GB")
SPEAKERS = 100  # throats that espeak draws from


class Engine(Protocol):
    """Text to speech."""

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The waveform [S] of a text, float32, and its sampling rate in Hz; pace and pitch are drawn from `rng`. Empty where it has no
        sound for it."""


class Hibari:
    """hibari-tts: English, 24 kHz.

    Args:
        voice: heart (in the package), fenrir, emma, fable, kore (downloaded on first use).

    Raises:
        MissingPackage: it is not installed.
        ValueError: a voice that it does not have or cannot get.
    """

    def __init__(self, voice: str = "heart") -> None:
        module = require("hibari", "tts", why="the voice hibari")
        try:
            self._engine = module.Hibari(voice=voice)
        except Exception as error:  # the package raises KeyError, ValueError or RuntimeError, by version
            raise ValueError(f"hibari:{voice}: hibari-tts cannot give this voice ({error}); `hibari --list-voices` lists them") from error

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        wave = self._engine(text, speed=float(rng.uniform(0.8, 1.25)), seed=int(rng.integers(1 << 31)))
        return np.asarray(wave, np.float32), int(self._engine.sample_rate)


class Pico:
    """SVOX Pico by py-nanotts: 16 kHz.

    Args:
        voice: en-US or en-GB.

    Raises:
        MissingPackage: it is not installed.
        ValueError: another voice.
    """

    def __init__(self, voice: str = "en-US") -> None:
        if voice not in PICO_VOICES:
            raise ValueError(f"pico:{voice}: there are {', '.join(f'pico:{name}' for name in PICO_VOICES)}")
        self._engine = require("py_nanotts", "tts", why="the voice pico").NanoTTS()
        self._voice = voice

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        sound = self._engine.speak(text, voice=self._voice, speed=float(rng.uniform(0.75, 1.2)), pitch=float(rng.uniform(0.75, 1.25)))
        return np.frombuffer(sound, np.int16).astype(np.float32) / 32768, 16000


class Espeak:
    """espeak-ng: 22.05 kHz, a speaker drawn for each text.

    Args:
        seed: of its throats and its noise.

    Raises:
        MissingPackage: espeakng-loader is not installed.
    """

    def __init__(self, seed: int = 0) -> None:
        self._engine = espeak.Synthesiser(seed, {f"speaker{n}": timbre(f"speaker{n}", seed) for n in range(SPEAKERS)})

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        self._engine.set_voice(str(rng.choice(ACCENTS)), f"speaker{rng.integers(SPEAKERS)}", rate=int(rng.integers(130, 200)),
                               pitch=int(np.clip(rng.normal(50, 6), 35, 65)), pitch_range=int(rng.integers(40, 80)))
        try:
            return self._engine.say(text), espeak.SAMPLING_RATE
        except RuntimeError:
            return np.zeros(0, np.float32), espeak.SAMPLING_RATE


def open_engine(name: str, seed: int = 0) -> Engine:
    """The engine that a name gives, `engine` or `engine:voice`.

    Raises:
        ValueError: a name that is none; MissingPackage: its package is not installed.
    """
    engine, _, voice = name.partition(":")
    if engine == "hibari":
        return Hibari(voice or "heart")
    if engine == "pico":
        return Pico(voice or "en-US")
    if engine == "espeak" and not voice:
        return Espeak(seed)
    raise ValueError(f"{name!r} is no voice: hibari, hibari:VOICE, {', '.join(f'pico:{name}' for name in PICO_VOICES)} or espeak")
