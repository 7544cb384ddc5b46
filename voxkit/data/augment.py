"""Changes to a waveform on the fly: room, noise, volume, microphone. Each utterance has a generator of its own, so nothing depends on the
order of things or on which process does them.

Speed is perturbed before batching, as a lhotse transform of the cut (`voxkit.data.sampler`), because it changes the duration.
"""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from voxkit.audio.io import EXTENSIONS, RATE
from voxkit.data.config import DataConfig
from voxkit.data.manifests import cut_of
from voxkit.data.microphone import through_microphone
from voxkit.data.pieces import split_manifest
from voxkit.data.reader import file_recording, load_samples
from voxkit.data.sources import check_sources

logger = logging.getLogger(__name__)

_LONGEST_RIR = 2 * RATE  # samples; what rings longer than that is noise of the measurement
_KEEP = 256  # impulse responses and short noises held in memory


def utterance_rng(seed: int, epoch: int, cut_id: str, purpose: str) -> random.Random:
    """The generator of one decision about one utterance in one epoch; the same on every machine and in every process."""
    return random.Random(f"{seed}/{epoch}/{cut_id}/{purpose}")


class Augment:
    """Reverberation, then noise, then volume, then the microphone.

    Args:
        config: `noise`, `noise_snr`, `noise_prob`, `rir`, `rir_prob`, `volume`, `microphone`.

    Raises:
        ValueError: a folder or manifest that is not there, or has no audio in it.
    """

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.noises = open_sounds(config.noise, "data.noise") if config.noise_prob > 0 else []
        self.rirs = open_sounds(config.rir, "data.rir") if config.rir_prob > 0 else []
        self._kept: dict[str, np.ndarray] = {}

    def __call__(self, audio: np.ndarray, rng: random.Random) -> tuple[np.ndarray, dict[str, str]]:
        """audio [S] float32 → [S], and the noises or impulse responses that could not be read (id → reason), which were left out."""
        failures: dict[str, str] = {}
        c = self.config
        if self.rirs and rng.random() < c.rir_prob:
            audio = self._try(self._reverberate, rng.choice(self.rirs), audio, rng, failures)
        if self.noises and rng.random() < c.noise_prob:
            audio = self._try(self._add_noise, rng.choice(self.noises), audio, rng, failures)
        if c.volume[0] != 1 or c.volume[1] != 1:
            audio = audio * math.exp(rng.uniform(math.log(c.volume[0]), math.log(c.volume[1])))
        if c.microphone.changes:
            audio = through_microphone(audio, c.microphone, rng)
        peak = float(np.abs(audio).max(initial=0.0))
        return (audio / peak if peak > 1 else audio).astype(np.float32, copy=False), failures

    def _try(self, change: Any, sound: Any, audio: np.ndarray, rng: random.Random, failures: dict[str, str]) -> np.ndarray:
        try:
            return change(audio, sound, rng)
        except Exception as error:  # whatever a decoder raises: the file is named, counted, and the utterance stays as it was
            failures[sound.id] = brief(error)
            return audio

    def _reverberate(self, audio: np.ndarray, sound: Any, rng: random.Random) -> np.ndarray:
        response = self._load(sound)
        return reverberate(audio, response)

    def _add_noise(self, audio: np.ndarray, sound: Any, rng: random.Random) -> np.ndarray:
        snr, place = rng.uniform(*self.config.noise_snr), rng.random()
        seconds = len(audio) / RATE
        if sound.duration > 2 * seconds + 1:
            piece = load_samples(sound.truncate(offset=place * (sound.duration - seconds - 0.1), duration=seconds + 0.1))
            start = 0
        else:
            piece = self._load(sound)
            start = int(place * max(len(piece) - len(audio), 0)) if len(piece) > len(audio) else int(place * len(piece))
        piece = np.take(piece, np.arange(start, start + len(audio)), mode="wrap")
        return add_noise(audio, piece, snr)

    def _load(self, sound: Any) -> np.ndarray:
        if sound.id not in self._kept:
            samples = load_samples(sound)
            if sound.duration > 60 or len(self._kept) >= _KEEP:
                return samples
            self._kept[sound.id] = samples
        return self._kept[sound.id]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


def add_noise(audio: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """audio [S] + noise [S], scaled to `snr` dB below the audio; unchanged where either is silent."""
    power, noise_power = float(np.mean(np.square(audio, dtype=np.float64))), float(np.mean(np.square(noise, dtype=np.float64)))
    if power < 1e-12 or noise_power < 1e-12:
        return audio
    return audio + np.float32(math.sqrt(power / noise_power) * 10 ** (-snr / 20)) * noise


def reverberate(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """audio [S] in the room of an impulse response, as loud as before and not delayed: the direct sound arrives at once → [S]."""
    response = response[int(np.abs(response).argmax()):][:_LONGEST_RIR]
    size = 1 << (len(audio) + len(response) - 2).bit_length()
    out = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(response, size), size)[:len(audio)]
    power, before = float(np.mean(np.square(out))), float(np.mean(np.square(audio, dtype=np.float64)))
    return (out * math.sqrt(before / power)).astype(np.float32) if power > 1e-20 else audio


def open_sounds(path: str, option: str) -> list[Any]:
    """The sounds of a folder (searched to the bottom), or of a lhotse manifest of cuts or recordings, as cuts in the order of their ids.

    Raises:
        ValueError: it is not there, or there is no readable audio in it; the message names the option.
    """
    from lhotse import Recording

    place = Path(path)
    if place.is_dir():
        files = sorted(p for p in place.rglob("*") if p.suffix.lower() in EXTENSIONS)
        sounds, bad = [], {}
        for file in files:
            try:
                sounds.append(file_recording(file, str(file.relative_to(place))).to_cut())
            except ValueError as error:
                bad[str(file)] = brief(error)
        if bad:
            logger.warning("%s: %d of %d files cannot be read and are left out: %s", option, len(bad), len(files),
                           "; ".join(f"{name} ({why})" for name, why in list(bad.items())[:5]))
    elif place.is_file():
        sounds = []
        for piece in split_manifest(place):
            for where, values in piece.read():
                if "sources" in values:
                    check_sources(values, where)
                    sounds.append(Recording.from_dict(values).to_cut())
                else:
                    sounds.append(cut_of(values, None, where))
    else:
        raise ValueError(f"{option}: {path} is neither a folder of audio nor a manifest")
    if not sounds:
        raise ValueError(f"{option}: no audio in {path}; looked for {', '.join(sorted(EXTENSIONS))}")
    return sorted((s if s.sampling_rate == RATE else s.resample(RATE) for s in sounds), key=lambda cut: cut.id)


def brief(error: BaseException) -> str:
    """An error in one line; decoders write paragraphs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in lines if "Error opening" in line or "No such file" in line), lines[0] if lines else "")
    text = text if len(text) <= 240 else text[:237] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
