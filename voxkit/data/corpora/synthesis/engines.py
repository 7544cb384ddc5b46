"""Speech synthesizers by name: English, small, offline once installed.

    hibari          a distilled Kokoro voice (`heart`; hibari:emma and others are downloaded on first use)
    pico:en-US      SVOX Pico, and pico:en-GB
    espeak          espeak-ng's formants: as many speakers as are wanted, robotic (`voices.timbre`)
"""

from __future__ import annotations

import functools
from typing import Protocol

import numpy as np

from voxkit.data.corpora.synthesis import espeak
from voxkit.data.corpora.synthesis.voices import ACCENTS, timbre
from voxkit.optional import require

PICO_VOICES = ("en-US", "en-GB")
SPEAKERS = 100  # that one espeak draws from
_SILENT = 0.005  # root mean square below which there is no speech: Pico answers letters that it does not know with faint noise


class Engine(Protocol):
    """Text to speech."""

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The waveform [S] of a text, float32, and its sampling rate in Hz, at a pace (of Pico and espeak also a pitch) drawn from `rng`.

        Raises:
            RuntimeError, ValueError: there is no speech for it.
        """


class Hibari:
    """hibari-tts: 24 kHz.

    Args:
        voice: heart (in the package), fenrir, emma, fable, kore (downloaded on first use).

    Raises:
        MissingPackage: it is not installed.
        ValueError: a voice that it does not have; RuntimeError: one that cannot be downloaded.
    """

    def __init__(self, voice: str = "heart") -> None:
        module = require("hibari", "tts", why="the voice hibari")
        try:
            self._engine = module.Hibari(voice=voice)
        except (KeyError, ValueError) as error:
            raise ValueError(f"hibari:{voice}: hibari-tts does not have this voice ({error}); `hibari --list-voices` lists them") from error

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        wave = self._engine(text, speed=float(rng.uniform(0.8, 1.25)), seed=int(rng.integers(1 << 31)))
        return np.asarray(wave, np.float32), int(self._engine.sample_rate)


class Pico:
    """SVOX Pico by py-nanotts: 16 kHz. The last bits of its samples differ from call to call.

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
    """espeak-ng: 22.05 kHz, a speaker drawn for each text. What it says depends on what it has said before (`espeak.Synthesizer`).

    Args:
        seed: of its speakers and its noise.

    Raises:
        MissingPackage: espeakng-loader is not installed.
    """

    def __init__(self, seed: int = 0) -> None:
        require("espeakng_loader", "tts", why="the voice espeak")
        self._engine = espeak.Synthesizer(seed, {f"speaker{n}": timbre(f"speaker{n}", seed) for n in range(SPEAKERS)})

    def say(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        self._engine.set_voice(str(rng.choice(ACCENTS)), f"speaker{rng.integers(SPEAKERS)}", rate=int(rng.integers(130, 200)),
                               pitch=int(np.clip(rng.normal(50, 6), 35, 65)), pitch_range=int(rng.integers(40, 80)))
        return self._engine.say(text), espeak.SAMPLING_RATE


def open_engine(name: str, seed: int = 0) -> Engine:
    """The engine that a name gives, `engine` or `engine:voice`; those that keep nothing from one text to the next are opened once.

    Args:
        seed: of those that do keep something.

    Raises:
        ValueError: a name that is none; MissingPackage: its package is not installed.
    """
    engine, _, voice = name.partition(":")
    if engine == "espeak" and not voice:
        return Espeak(seed)
    if engine in ("hibari", "pico"):
        return _opened(engine, voice)
    raise ValueError(f"{name!r} is no voice: hibari, hibari:VOICE, {', '.join(f'pico:{name}' for name in PICO_VOICES)} or espeak")


def speech(engine: Engine, text: str, rng: np.random.Generator) -> tuple[np.ndarray, int] | None:
    """What `say` gives; None where the engine has no speech for the text."""
    try:
        wave, rate = engine.say(text, rng)
    except (RuntimeError, ValueError):
        return None
    return (wave, rate) if len(wave) and float(np.sqrt(np.mean(np.square(wave)))) >= _SILENT else None


@functools.cache
def _opened(engine: str, voice: str) -> Engine:
    return Hibari(voice or "heart") if engine == "hibari" else Pico(voice or "en-US")
