"""Synthetic, speech-like features whose every boundary is known: a corpus that is made in seconds and learned in minutes.

    voxkit prepare toyseq --out data

gives train, dev and test. There is no audio: an utterance is a matrix [T, 40] at 100 frames/s, like a log-mel filterbank, and batches
carry it as it is (`data.input: features`). Words are made of syllables (bado, ki, rulame), so that nearly every word of dev and test is
new. A letter is a glide between two spectra of its own; its length, the voice (spectrum stretched and tilted), the tempo, the pauses,
the blending of neighbors and the noise vary from utterance to utterance. Voices of dev and test are not those of train.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxkit.data.validate import Checks, Preparation

if TYPE_CHECKING:
    from lhotse.cut import Cut

FRAME = 0.01  # seconds
CONSONANTS, VOWELS = "bdfgklmnprst", "aeiou"
_VERSION = 1  # part of the fingerprint: a change in how the corpus is made makes it anew


@dataclass
class ToySeqConfig:
    """How much of everything, and how hard.

    Attributes:
        seed: another seed is another corpus.
        num_train, num_dev, num_test: utterances, of 1.8 s on average.
        bins: values per frame.
        noise: standard deviation of what is added to every value, at most; spectra have a height of about 3.
        voices: of train; dev and test have as many of their own.
    """

    seed: int = 0
    num_train: int = 2000
    num_dev: int = 100
    num_test: int = 300
    bins: int = 40
    noise: float = 0.7
    voices: int = 60

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)}, and must be at least 1" for name in ("num_train", "num_dev", "num_test", "voices")
                 if getattr(self, name) < 1]
        if self.bins < 10:
            found.append(f"bins: {self.bins} are too few to tell 17 letters apart; at least 10")
        return found + ([f"noise: {self.noise} is negative"] if self.noise < 0 else [])


@dataclass
class ToyUtterance:
    """One utterance: features [T, F] float32; words and letters as (text, start, end) in seconds."""

    id: str
    speaker: str
    text: str
    features: np.ndarray
    words: list[tuple[str, float, float]]
    letters: list[tuple[str, float, float]]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.features) * FRAME


class ToySeq2SeqDataset:
    """The utterances of one split; item i is made when it is asked for, and always the same.

    Args:
        config: of the corpus.
        split: train, dev or test.
    """

    def __init__(self, config: ToySeqConfig | None = None, split: str = "train") -> None:
        self.config, self.split = config or ToySeqConfig(), split
        sizes = {"train": self.config.num_train, "dev": self.config.num_dev, "test": self.config.num_test}
        if split not in sizes:
            raise ValueError(f"split {split!r} is none of {', '.join(sizes)}")
        if problems := self.config.problems():
            raise ValueError("; ".join(problems))
        self.size = sizes[split]
        self.spectra = letter_spectra(self.config.bins, self.config.seed)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[ToyUtterance]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> ToyUtterance:
        if not 0 <= index < self.size:
            raise IndexError(f"{self.split} has {self.size} utterances, there is no {index}")
        rng = random.Random(f"{self.config.seed}/{self.split}/{index}")
        words = [_word(rng) for _ in range(rng.randint(2, 5))]
        speaker = f"{self.split}-v{rng.randrange(self.config.voices):02d}"
        features, spans, letters = self._utter(words, speaker, rng)
        return ToyUtterance(f"{self.split}-{index:05d}", speaker, " ".join(words), features, spans, letters)

    def _utter(self, words: list[str], speaker: str, rng: random.Random) -> tuple[np.ndarray, list, list]:
        bins = self.config.bins
        voice = random.Random(f"{self.config.seed}/{speaker}")
        stretch, tilt, tempo = voice.uniform(-1.5, 1.5), voice.uniform(-1.0, 1.0), voice.uniform(0.8, 1.25)
        silence = np.zeros(bins)
        pieces: list[np.ndarray] = []
        spans, letters = [], []

        def pause(low: int, high: int) -> None:
            pieces.append(np.repeat(silence[None], rng.randint(low, high), axis=0))

        pause(8, 25)
        for word in words:
            start = sum(map(len, pieces))
            for letter in word:
                length = max(4, round(rng.gauss(9 if letter in VOWELS else 7, 1.6) * tempo))
                first, last = self.spectra[letter]
                mix = np.linspace(0, 1, length)[:, None]
                letters.append((letter, sum(map(len, pieces)) * FRAME, (sum(map(len, pieces)) + length) * FRAME))
                pieces.append((1 - mix) * first + mix * last)
            spans.append((word, start * FRAME, sum(map(len, pieces)) * FRAME))
            pause(5, 22)
        x = np.concatenate(pieces)
        places = np.linspace(0, 1, bins)
        x = np.stack([np.interp(places * (bins - 1) * (1 + stretch / bins), np.arange(bins), row) for row in x])
        x += tilt * (places - 0.5) * (x.max(1, keepdims=True) > 0.3)
        kernel = np.hanning(rng.choice((5, 7)))  # neighbors blend into each other
        x = np.apply_along_axis(np.convolve, 0, x, kernel / kernel.sum(), mode="same")
        noise = np.random.default_rng(rng.getrandbits(48))
        x += noise.normal(0, rng.uniform(0.1, 1.0) * self.config.noise, x.shape) + rng.uniform(-0.5, 0.5)
        return x.astype(np.float32), spans, letters


def letter_spectra(bins: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Letter → spectrum [bins] at its begin and at its end: three humps each, vowels higher than consonants."""
    spectra = {}
    for letter in CONSONANTS + VOWELS:
        rng = np.random.default_rng([seed, ord(letter)])
        height = 3.0 if letter in VOWELS else 2.2

        def hump(center: float, width: float) -> np.ndarray:
            return np.exp(-0.5 * ((np.arange(bins) - center) / width) ** 2)

        centers = np.sort(rng.uniform(2, bins - 2, 3))
        moved = centers + rng.uniform(-bins / 8, bins / 8, 3)
        widths = rng.uniform(1.2, 3.0, 3)
        first, last = (height * sum((hump(c, w) for c, w in zip(where, widths)), np.zeros(bins)) for where in (centers, moved))
        spectra[letter] = (first, last)
    return spectra


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.choice((1, 2, 2, 3))))


def prepare_toyseq(out: str | os.PathLike, config: ToySeqConfig | None = None, *, checks: Checks | None = None) -> Preparation:
    """Make the corpus under `out`, unless it is there: features/<split>/<id>.npy and cuts with the times of words and letters.

    Raises:
        ValueError: options out of range.
    """
    config, checks = config or ToySeqConfig(), checks or Checks()
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    preparation = Preparation(out, "toyseq", checks, {"version": _VERSION, **asdict(config)})
    for split in ("train", "dev", "test"):
        if not preparation.done(split):
            preparation.begin(split)
            preparation.finish(split, _cuts(ToySeq2SeqDataset(config, split), out / "features"))
    return preparation


def _cuts(dataset: ToySeq2SeqDataset, directory: Path) -> Iterator[Cut]:
    from lhotse import MonoCut, SupervisionSegment
    from lhotse.features import Features
    from lhotse.supervision import AlignmentItem

    (directory / dataset.split).mkdir(parents=True, exist_ok=True)
    for made in dataset:
        key = f"{dataset.split}/{made.id}.npy"
        np.save(directory / key, made.features.astype(np.float16))
        features = Features(type="toyseq", num_frames=len(made.features), num_features=made.features.shape[1], frame_shift=FRAME,
                            sampling_rate=16000, start=0.0, duration=made.duration, storage_type="numpy_files",
                            storage_path=str(directory), storage_key=key, recording_id=made.id, channels=0)
        alignment = {kind: [AlignmentItem(symbol=text, start=round(start, 4), duration=round(end - start, 4)) for text, start, end in items]
                     for kind, items in (("word", made.words), ("letter", made.letters))}
        supervision = SupervisionSegment(id=made.id, recording_id=made.id, start=0.0, duration=made.duration, channel=0, text=made.text,
                                         speaker=made.speaker, alignment=alignment)
        yield MonoCut(id=made.id, start=0.0, duration=made.duration, channel=0, features=features, supervisions=[supervision])


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare toyseq`; returns what runs them."""
    for name, default in asdict(ToySeqConfig()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=f"default {default}")
    return lambda args, checks: prepare_toyseq(args.out, ToySeqConfig(**{name: getattr(args, name) for name in asdict(ToySeqConfig())}),
                                               checks=checks)
