"""One utterance of the toy corpus: words said one by one and laid down at known places, then a room, noise, perhaps a radio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from voxkit.data.corpora.synthesis import espeak, sounds
from voxkit.data.corpora.synthesis.espeak import Synthesizer
from voxkit.data.corpora.synthesis.voices import timbre

# The rate in Hz that an utterance is played back at: somewhat faster and higher, or slower and lower.
SIZES = tuple(range(20500, 24000, 500))


@dataclass(frozen=True)
class PlannedUtterance:
    """What is to be said, by whom and where; `seed` decides everything else."""

    id: str
    text: str
    accent: str
    variant: str
    radio: bool
    seed: int

    @property
    def speaker(self) -> str:
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True)
class Block:
    """Utterances that one synthesizer makes in this order, with the voices of the crowd behind them; the unit of parallel work."""

    utterances: tuple[PlannedUtterance, ...]
    crowd: tuple[tuple[str, str], ...]  # (accent, variant)
    crowd_words: tuple[str, ...]
    directory: str
    seed: int
    voices_seed: int


@dataclass(frozen=True)
class Made:
    """An utterance on disk: samples at 16 kHz, and for each word (word, start, duration) in seconds."""

    id: str
    path: str
    samples: int
    words: tuple[tuple[str, float, float], ...]


def make_block(block: Block) -> list[Made]:
    """Make the utterances of a block as 16-bit FLAC at 16 kHz under its directory; the same block gives the same samples."""
    voices = {u.variant for u in block.utterances} | {variant for _, variant in block.crowd}
    synthesizer = Synthesizer(block.seed, {voice: timbre(voice, block.voices_seed) for voice in sorted(voices)})
    crowd = _crowd(synthesizer, block)
    os.makedirs(block.directory, exist_ok=True)
    made = []
    for utterance in block.utterances:
        audio, words = render(synthesizer, utterance, crowd)
        path = Path(block.directory) / f"{utterance.id}.flac"
        soundfile.write(path, audio, sounds.RATE, subtype="PCM_16")
        made.append(Made(utterance.id, str(path), len(audio), tuple(words)))
    return made


def render(synthesizer: Synthesizer, utterance: PlannedUtterance, crowd: np.ndarray) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """The waveform [S] at 16 kHz, and its words with start and duration in seconds."""
    rng = np.random.default_rng(utterance.seed)
    synthesizer.set_voice(utterance.accent, utterance.variant, rate=int(rng.integers(180, 231)),
                          pitch=int(np.clip(rng.normal(50, 6), 35, 65)), pitch_range=int(rng.integers(35, 70)))
    rate = int(rng.choice(SIZES))
    speech, words = lay_down(rng, [(word, trim(synthesizer.say(word.lower()))) for word in utterance.text.split()], rate)
    x = sounds.microphone(rng, sounds.resample(speech, rate, sounds.RATE))
    if rng.random() < 0.4:
        x = sounds.room(rng, x, rng.uniform(0.1, 0.4), rng.uniform(6, 18))
    low, high, clean = (5, 20, 0.1) if utterance.radio else (10, 30, 0.3)
    if rng.random() >= clean:
        kind = rng.choice([*sounds.NOISES, "babble"])
        if kind == "babble":
            start = int(rng.integers(0, max(1, len(crowd) - len(x))))
            noise = np.resize(crowd[start:start + len(x)], len(x))
        else:
            noise = sounds.NOISES[str(kind)](rng, len(x))
        x = sounds.add_noise(x, noise, rng.uniform(low, high))
    if utterance.radio:
        x = sounds.radio(rng, x)
    x = sounds.unit(x) * 10 ** (rng.uniform(-30, -16) / 20)
    peak = float(np.abs(x).max())
    return (x if peak < 0.98 else x * (0.98 / peak)).astype(np.float32), words


def trim(word: np.ndarray, threshold: float = 0.02, guard: float = 0.005) -> np.ndarray:
    """Cut the silence off both ends of a word [S] at 22.05 kHz: what is below `threshold` of its peak, but for `guard` seconds."""
    loud = np.flatnonzero(np.abs(word) > threshold * np.abs(word).max())
    guard_samples = int(guard * espeak.SAMPLING_RATE)
    return word[max(0, loud[0] - guard_samples):loud[-1] + 1 + guard_samples]


def lay_down(rng: np.random.Generator, said: list[tuple[str, np.ndarray]], rate: int) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Words in a row at `rate` Hz: short gaps, some of them negative, where the words cross-fade.

    Where two words overlap the boundary is the middle of the overlap.
    """
    fade = int(0.008 * rate)
    position, places = int(rng.uniform(0.1, 0.2) * rate), []
    for _, wave in said:
        places.append(position)
        position += len(wave) + int(rng.uniform(-0.025, 0.09) * rate)
    ends = [place + len(wave) for place, (_, wave) in zip(places, said)]
    speech = np.zeros(ends[-1] + int(rng.uniform(0.1, 0.2) * rate))
    ramp = np.linspace(0, 1, fade)
    for place, (_, wave) in zip(places, said):
        wave = wave.astype(np.float64)
        wave[:fade] *= ramp
        wave[-fade:] *= ramp[::-1]
        speech[place:place + len(wave)] += wave
    words = []
    for i, (word, _) in enumerate(said):
        start = places[i] if i == 0 else max(places[i], (places[i] + ends[i - 1]) // 2)
        end = ends[i] if i + 1 == len(said) else min(ends[i], (ends[i] + places[i + 1]) // 2)
        words.append((word, round(start / rate, 4), round(end / rate, 4) - round(start / rate, 4)))
    return speech, [(word, start, round(duration, 4)) for word, start, duration in words]


def _crowd(synthesizer: Synthesizer, block: Block, seconds: float = 6.0) -> np.ndarray:
    """Several voices at once [S] at 16 kHz, for babble."""
    rng = np.random.default_rng(block.seed)
    length = int(seconds * espeak.SAMPLING_RATE)
    total = np.zeros(length)
    for accent, variant in block.crowd:
        synthesizer.set_voice(accent, variant, rate=int(rng.integers(150, 200)), pitch=50, pitch_range=60)
        said = synthesizer.say(" ".join(rng.choice(block.crowd_words, size=18)).lower())
        total += sounds.unit(np.roll(np.resize(said, length), int(rng.integers(length))))
    return sounds.resample(total, espeak.SAMPLING_RATE, sounds.RATE)
