"""The sounds around a voice: game-like noise, rooms, a radio. Everything is made from a random generator; nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from voxkit.rate import RATE


def fast_length(samples: int) -> int:
    """The smallest 2^a 3^b 5^c from `samples` on: the Fourier transform of a prime length takes several times as long."""
    best = 1 << (samples - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            size = three << max(0, (-(-samples // three) - 1).bit_length())
            best = min(best, size)
            three *= 3
        five *= 5
    return best


def colored(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Noise [S] whose power falls as 1 / f^slope: 1 is pink, 2 is brown."""
    size = fast_length(samples)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    return np.fft.irfft(spectrum / np.maximum(frequency, 30.0) ** (slope / 2), size)[:samples]


def hum(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A machine: a low tone with overtones, over brown noise."""
    time = np.arange(samples) / RATE
    base = rng.uniform(40, 130)
    tones = sum((np.sin(2 * np.pi * (k * base * time + rng.random())) / k for k in range(1, 7)), np.zeros(samples))
    return unit(tones) + 0.5 * unit(colored(rng, samples, 2.0))


def engine(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Brown noise that beats as an engine does."""
    time = np.arange(samples) / RATE
    return colored(rng, samples, 2.0) * (1 + 0.9 * np.sin(2 * np.pi * (rng.uniform(8, 25) * time + rng.random())))


def explosions(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Bursts of brownish noise that die away, over a faint pink floor."""
    noise = 0.05 * unit(colored(rng, samples, 1.0))
    rumble = unit(colored(rng, samples, 1.5))
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(0, samples))
        decay = np.exp(-np.arange(samples - start) / (RATE * rng.uniform(0.05, 0.3)))
        noise[start:] += rng.uniform(0.5, 2.0) * rumble[: samples - start] * decay
    return noise


def beeps(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Interface sounds: short tones at random times, over a faint pink floor."""
    noise = 0.1 * unit(colored(rng, samples, 1.0))
    for _ in range(int(rng.integers(2, 7))):
        length = min(samples, int(RATE * rng.uniform(0.04, 0.2)))
        start = int(rng.integers(0, samples - length + 1))
        tone = np.sin(2 * np.pi * rng.uniform(400, 3000) * np.arange(length) / RATE)
        noise[start:start + length] += tone * np.hanning(length)
    return noise


def music(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Chords of decaying tones, a new one every third of a second."""
    step, out = RATE // 3, np.zeros(samples)
    for start in range(0, samples, step):
        time = np.arange(min(samples - start, 2 * step)) / RATE
        root = 110 * 2 ** (rng.integers(0, 24) / 12)
        chord = sum(np.sin(2 * np.pi * root * 2 ** (n / 12) * time) for n in (0, 4, 7))
        out[start:start + len(time)] += chord * np.exp(-4 * time)
    return out


def pink(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Pink noise."""
    return colored(rng, samples, 1.0)


NOISES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "pink": pink, "hum": hum, "engine": engine, "explosions": explosions, "beeps": beeps, "music": music,
}


def unit(x: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of one; silence stays."""
    return x / max(float(np.sqrt(np.mean(np.square(x)))), 1e-9)


def add_noise(speech: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Speech [S] and noise [S] at a ratio of `snr` dB, both measured over the whole of S."""
    level = float(np.sqrt(np.mean(np.square(speech))))
    return speech + unit(noise) * level * 10 ** (-snr / 20)


def room(rng: np.random.Generator, speech: np.ndarray, reverberation: float, direct: float) -> np.ndarray:
    """Put speech [S] in a room: exponentially decaying noise behind the direct sound, which keeps its place.

    Args:
        reverberation: seconds until the sound has fallen by 60 dB.
        direct: ratio of the direct sound to all reflections, in dB.
    """
    length = int(reverberation * RATE)
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response[: int(rng.uniform(0.002, 0.008) * RATE)] = 0  # the first reflection takes its time
    response *= 10 ** (-direct / 20) / np.sqrt(np.sum(np.square(response)))
    response[0] = 1
    size = fast_length(len(speech) + length)
    wet = np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)
    return wet[: len(speech)]


def microphone(rng: np.random.Generator, x: np.ndarray, depth: float = 6.0) -> np.ndarray:
    """Through one microphone of many: a response of at most `depth` dB up or down, smooth over the octaves from 60 Hz."""
    def gain(frequency: np.ndarray) -> np.ndarray:
        octaves = np.log2(np.maximum(frequency, 60.0) / 60.0)
        curve = sum(rng.uniform(-1, 1) * np.cos(np.pi * k * octaves / 7 + rng.uniform(0, np.pi)) for k in range(1, 5)) / 2
        return 10 ** (depth * np.clip(curve, -1, 1) / 20)

    return filtered(x, gain)


def radio(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Through a field radio: a narrow band, a driven amplifier, static."""
    x = band(x, rng.uniform(250, 400), rng.uniform(2800, 3600))
    x = np.tanh(rng.uniform(0.5, 2.0) * unit(x))
    return band(add_noise(x, rng.standard_normal(len(x)), rng.uniform(12, 30)), 200, 3800)


def band(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep [low, high] Hz; the slopes are an eighth of the edge's frequency wide."""
    return filtered(x, lambda frequency: np.clip((frequency - low) / (low / 8) + 1, 0, 1)
                    * np.clip((high - frequency) / (high / 8) + 1, 0, 1))


def filtered(x: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """x [S] with every frequency multiplied by its gain, a function of frequencies in Hz; no phase is moved."""
    size = fast_length(len(x))
    return np.fft.irfft(np.fft.rfft(x, size) * gain(np.fft.rfftfreq(size, 1 / RATE)), size)[: len(x)]


def resample(x: np.ndarray, old: int, new: int) -> np.ndarray:
    """Band-limited change of rate through the spectrum; the ends should be silent."""
    step = old // int(np.gcd(old, new))
    steps = -(-len(x) // step)
    padded = step * fast_length(steps)
    length = padded * new // old
    spectrum = np.fft.rfft(x, padded)
    kept = np.zeros(length // 2 + 1, dtype=spectrum.dtype)
    count = min(len(kept), len(spectrum))
    kept[:count] = spectrum[:count]
    return np.fft.irfft(kept, length)[: steps * step * new // old] * (length / padded)
