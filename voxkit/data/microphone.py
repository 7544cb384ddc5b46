"""What a player's microphone and voice chat do to speech: overload, a codec of few kilobits, a button that is pressed late."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass, field

import numpy as np

from voxkit.rate import RATE

_LEAST, _MOST = 6.0, 256.0  # kbit/s between which libsndfile maps its compression level


@dataclass
class MicrophoneConfig:
    """Attributes:
    clip_prob, clip_db: share of utterances that are overloaded; range in dB by which their peak is beyond what is kept.
    opus_prob, opus_kbps: share that goes through Opus and back, as in voice chat; range of its kilobits per second.
    cut_prob, cut_ms: share whose beginning and end are silent, as with a push-to-talk button; the most that each loses. Never more than a
        fifth of the utterance at either end.
    """

    clip_prob: float = 0.0
    clip_db: list[float] = field(default_factory=lambda: [0.0, 12.0])
    opus_prob: float = 0.0
    opus_kbps: list[float] = field(default_factory=lambda: [8.0, 24.0])
    cut_prob: float = 0.0
    cut_ms: float = 200.0

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self.clip_prob > 0 or self.opus_prob > 0 or self.cut_prob > 0

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = [f"{name}: {getattr(self, name)} is not in [0, 1]" for name in ("clip_prob", "opus_prob", "cut_prob")
                 if not 0 <= getattr(self, name) <= 1]
        for name, low, high in (("clip_db", 0.0, 60.0), ("opus_kbps", _LEAST, _MOST)):
            values = getattr(self, name)
            if len(values) != 2 or not low <= values[0] <= values[1] <= high:
                found.append(f"{name}: {values} should be [low, high] between {low:g} and {high:g}")
        if not self.cut_ms >= 0:
            found.append(f"cut_ms: {self.cut_ms} is below 0")
        if self.opus_prob > 0 and not has_opus():
            found.append(f"opus_prob: {self.opus_prob}, and this soundfile cannot write Opus; upgrade it (pip install -U soundfile), or "
                         "set opus_prob to 0")
        return found


def through_microphone(audio: np.ndarray, config: MicrophoneConfig, rng: random.Random) -> np.ndarray:
    """audio [S] at 16 kHz → [S], perhaps overloaded, coded and cut, in this order."""
    if rng.random() < config.clip_prob:
        audio = overload(audio, rng.uniform(*config.clip_db))
    if rng.random() < config.opus_prob:
        audio = opus(audio, rng.uniform(*config.opus_kbps))
    if rng.random() < config.cut_prob:
        audio = press_late(audio, *(rng.uniform(0, config.cut_ms / 1000) for _ in range(2)))
    return audio


def overload(audio: np.ndarray, decibels: float) -> np.ndarray:
    """audio [S] whose peaks are cut off so many dB below the highest; the same height afterwards."""
    peak = float(np.abs(audio).max(initial=0.0))
    limit = peak * 10 ** (-decibels / 20)
    return audio if limit <= 0 else (np.clip(audio, -limit, limit) * (peak / limit)).astype(np.float32)


def opus(audio: np.ndarray, kbps: float) -> np.ndarray:
    """audio [S] at 16 kHz through Ogg Opus at a bit rate and back → [S], as long and in time."""
    import soundfile

    peak = float(np.abs(audio).max(initial=0.0))
    if peak == 0:
        return audio
    scale = max(1.0, peak / 0.99)
    coded = io.BytesIO()
    soundfile.write(coded, audio / scale, RATE, format="OGG", subtype="OPUS", compression_level=_level(kbps))
    coded.seek(0)
    back, rate = soundfile.read(coded, dtype="float32")
    assert rate == RATE, rate
    out = np.zeros(len(audio), np.float32)
    out[:min(len(back), len(out))] = back[:len(out)] * scale
    return out


def press_late(audio: np.ndarray, first: float, last: float) -> np.ndarray:
    """audio [S] with so many seconds of silence in the place of its beginning and of its end; its length stays."""
    most = len(audio) // 5
    begin, end = min(math.floor(first * RATE), most), min(math.floor(last * RATE), most)
    out = audio.copy()
    out[:begin] = 0
    out[len(out) - end:] = 0
    return out


def has_opus() -> bool:
    """Whether soundfile and its library write Opus at a chosen bit rate."""
    import inspect

    import soundfile

    return "OPUS" in soundfile.available_subtypes("OGG") and "compression_level" in inspect.signature(soundfile.write).parameters


def _level(kbps: float) -> float:
    """libsndfile's compression level in [0, 1] for a bit rate."""
    return min(1.0, max(0.0, 1 - (kbps - _LEAST) / (_MOST - _LEAST)))
