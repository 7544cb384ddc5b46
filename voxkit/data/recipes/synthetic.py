"""Synthetic speech for text: lines said by small synthesisers, to be trained on beside real speech (Rosenberg et al. 2019,
arXiv 1909.11699). A model learns from it words that its own recordings never had: the names of a game, the vocabulary of a domain.

    voxkit prepare synthetic --lines callouts.txt --voices hibari pico:en-US pico:en-GB espeak --out data

makes the split `synthetic`: data.train=[train,synthetic]. A voice is drawn for every line, its pace and pitch for every utterance, which
is played back a little faster or slower, as if by a smaller or larger speaker. The text is what a line says after normalisation; lines
with figures or signs are left out, for they are read out otherwise than they are written. The same options and packages give the same
speech.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps
from voxkit.data.recipes.synthesis import sounds
from voxkit.data.recipes.synthesis.engines import open_engine
from voxkit.data.validate import RATE, Checks, Preparation, mono_cut
from voxkit.text.normalise import normalisation

if TYPE_CHECKING:
    from lhotse.cut import Cut

_VERSION = 1  # part of the fingerprint: a change in how the corpus sounds makes it anew
_WORDS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+|['’])*(?: [^\W\d_]+(?:['’-][^\W\d_]+|['’])*)*")
_STEP = 500  # Hz between the rates that an utterance is played back at
_LEVELS = (-32.0, -18.0)  # root mean square of an utterance, dB of full scale
_BLOCK = 50  # utterances per job
_WAVE = 16  # jobs given out together; after each it is asked whether there is enough


@dataclass
class SyntheticConfig:
    """What is said by whom.

    Attributes:
        lines: text file, a line an utterance.
        split: name of what is made.
        voices: synthesisers (`synthesis.engines`); one named twice speaks twice as often.
        times: utterances of every line, each by a voice drawn anew.
        hours: of speech, at most; 0 = all.
        vary: by which share an utterance is played back faster or slower, at most.
        seed: of every draw.
    """

    lines: str = ""
    split: str = "synthetic"
    voices: list[str] = field(default_factory=lambda: ["espeak"])
    times: int = 1
    hours: float = 0.0
    vary: float = 0.1
    seed: int = 0

    def problems(self) -> list[str]:
        found = [] if Path(self.lines).is_file() else [f"lines: {self.lines!r} is no file"]
        if not self.split or set(self.split) & set(os.sep + "*?"):
            found.append(f"split: {self.split!r} cannot be the name of a split")
        if not self.voices:
            found.append("voices: none; espeak is one")
        if self.times < 1:
            found.append(f"times: {self.times}, and must be at least 1")
        if not 0 <= self.vary < 0.5:
            found.append(f"vary: {self.vary} is not in [0, 0.5)")
        return found + ([f"hours: {self.hours} is negative"] if self.hours < 0 else [])


@dataclass(frozen=True)
class Item:
    """An utterance to be made; `seed` decides all that its voice leaves open."""

    id: str
    text: str
    voice: str
    seed: tuple[int, int]
    path: str


def prepare_synthetic(out: str | os.PathLike, config: SyntheticConfig, *, checks: Checks | None = None, jobs: int | None = None,
                      dask: str | None = None) -> Preparation:
    """Make the split under `out`, unless it is there: audio/<split>/<id>.flac and cuts.

    Raises:
        ValueError: options out of range, no line that can be said; MissingPackage: a synthesiser that is not installed.
    """
    checks = checks or Checks()
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    preparation = Preparation(out, "synthetic", checks, {"version": _VERSION, **asdict(config)},
                              {config.split: file_stamps([Path(config.lines)])})
    if preparation.done(config.split):
        return preparation
    for voice in dict.fromkeys(config.voices):
        open_engine(voice)  # what is missing is said before anything is removed
    rule = normalisation(checks.text)
    lines = [rule(line) for line in Path(config.lines).read_text(encoding="utf-8").splitlines()]
    lines = [" ".join(line.split()) for line in lines if line.strip()]
    said = [line for line in lines if _WORDS.fullmatch(line)]
    if not said:
        raise ValueError(f"{config.lines}: no line is of words alone, without figures and signs; --text librispeech or lower takes signs "
                         "out")
    report = preparation.begin(config.split)
    if len(said) < len(lines):
        report.note("lines with figures or signs, left out", len(lines) - len(said))
    folder = out / "audio" / config.split
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with open_executor(jobs, dask) as executor:
        made = list(_made(executor, _blocks(plan(said, config, folder)), config))
    cuts = [_cut(item, samples) for item, samples in made if samples]
    if len(cuts) < len(made):
        report.note("lines that their voice could not say", len(made) - len(cuts))
    with open_executor(jobs, dask, threads=True) as executor:
        preparation.executor = executor
        preparation.finish(config.split, cuts)
    return preparation


def plan(lines: Sequence[str], config: SyntheticConfig, folder: Path) -> Iterator[Item]:
    """Who says what."""
    for turn in range(config.times):
        for index, line in enumerate(lines):
            number = turn * len(lines) + index
            seed = (config.seed, number)
            voice = config.voices[int(np.random.default_rng([*seed, 0]).integers(len(config.voices)))]
            id = f"{config.split}-{number:06d}"
            yield Item(id, line, voice, seed, str(folder / f"{id}.flac"))


def _blocks(items: Iterator[Item]) -> list[tuple[Item, ...]]:
    """Utterances of one voice after the other; the blocks in the order of the lines they begin with."""
    waiting: dict[str, list[Item]] = {}
    done: list[tuple[Item, ...]] = []
    for item in items:
        block = waiting.setdefault(item.voice, [])
        block.append(item)
        if len(block) == _BLOCK:
            done.append(tuple(waiting.pop(item.voice)))
    return sorted([*done, *map(tuple, waiting.values())], key=lambda block: block[0].id)


def _made(executor: Executor, blocks: Sequence[tuple[Item, ...]], config: SyntheticConfig) -> Iterator[tuple[Item, int]]:
    """What is made, with its samples, until there is enough of it."""
    left = config.hours * 3600 * RATE or float("inf")
    for first in range(0, len(blocks), _WAVE):
        for made in executor.map(partial(_make, vary=config.vary, seed=config.seed), blocks[first:first + _WAVE]):
            for item, samples in made:
                if left > 0:
                    yield item, samples
                else:
                    Path(item.path).unlink(missing_ok=True)
                left -= samples
        if left <= 0:
            return


def _make(block: Sequence[Item], vary: float, seed: int) -> list[tuple[Item, int]]:
    """Write the utterances of one voice → each with its samples, none where the voice fails."""
    from voxkit.audio.io import write_audio

    engine = open_engine(block[0].voice, seed + block[0].seed[1])
    made = []
    for item in block:
        rng = np.random.default_rng([*item.seed, 1])
        wave, rate = engine.say(item.text.lower(), rng)
        played = round(rate * rng.uniform(1 - vary, 1 + vary) / _STEP) * _STEP
        if not np.any(wave):
            made.append((item, 0))
            continue
        audio = sounds.unit(sounds.resample(wave, played, RATE)) * 10 ** (rng.uniform(*_LEVELS) / 20)
        peak = float(np.abs(audio).max())
        write_audio(item.path, (audio * min(1.0, 0.98 / peak)).astype(np.float32))
        made.append((item, len(audio)))
    return made


def _cut(item: Item, samples: int) -> Cut:
    from lhotse import Recording, SupervisionSegment
    from lhotse.audio import AudioSource

    duration = samples / RATE
    recording = Recording(id=item.id, sources=[AudioSource(type="file", channels=[0], source=item.path)], sampling_rate=RATE,
                          num_samples=samples, duration=duration, channel_ids=[0])
    return mono_cut(recording, SupervisionSegment(id=item.id, recording_id=item.id, start=0.0, duration=duration, channel=0, text=item.text,
                                                  speaker=item.voice))


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare synthetic`; returns what runs them."""
    defaults: dict[str, Any] = asdict(SyntheticConfig())
    parser.add_argument("--lines", required=True, help="text, a line an utterance")
    parser.add_argument("--voices", nargs="+", default=defaults["voices"], help="hibari, pico:en-US, pico:en-GB, espeak (default: espeak)")
    for name in ("split", "times", "hours", "vary", "seed"):
        parser.add_argument("--" + name, type=type(defaults[name]), default=defaults[name], help=f"default {defaults[name]}")
    return lambda args, checks: prepare_synthetic(args.out, SyntheticConfig(**{name: getattr(args, name) for name in defaults}),
                                                  checks=checks, jobs=args.jobs, dask=args.dask)
