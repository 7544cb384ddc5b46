"""Synthetic speech for text: lines said by small synthesizers, in English, to be trained on beside real speech (Rosenberg et al. 2019,
arXiv 1909.11699). A model learns from it words that its own recordings never had: the names of a game, the vocabulary of a domain.

    voxkit prepare synthetic --lines callouts.txt --voices hibari pico:en-US pico:en-GB espeak --out data

makes the split `synthetic`: data.train=[train,synthetic]. The sentences of a pack (`voxkit pack`) come with their intents and slots:

    voxkit prepare synthetic --pack shooter --part train --voices espeak pico:en-US --out data
    voxkit prepare synthetic --pack shooter --part test --split synthetic_test --voices pico:en-GB --other-voices-than synthetic --out data

 A voice and its pace are drawn for every utterance, which is played back a little
faster or slower, as if by a smaller or larger speaker. The transcript is the line after normalization (`--text librispeech` takes
punctuation out).
Lines with figures, other signs or other letters than Latin ones are left out: they are read out otherwise than they are written. The same
options and packages give the same speech, but for the last bits of Pico's.
"""

from __future__ import annotations

import hashlib
import json
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

from voxkit.data.corpora.synthesis import sounds
from voxkit.data.corpora.synthesis.engines import Engine, open_engine, speech
from voxkit.data.executors import cores, open_executor
from voxkit.data.manifests import read_json
from voxkit.data.validate import RATE, Checks, Preparation, file_cut, split_problems
from voxkit.files import read_lines
from voxkit.text.normalize import normalization

if TYPE_CHECKING:
    from lhotse.cut import Cut

_VERSION = 4  # part of the fingerprint: a change in how the corpus sounds makes it anew
_SAID = re.compile(r"(?=.*[A-Za-z])[A-Za-zÀ-ÖØ-öø-ÿ '’.,?!;:\"()-]+")  # letters, and what is read over
_STEP = 500  # Hz between the rates that an utterance is played back at
_LEVELS = (-32.0, -18.0)  # root mean square of an utterance, dB of full scale
_BLOCK = 50  # utterances per job


@dataclass
class SyntheticConfig:
    """What is said by whom.

    Attributes:
        lines: text file, a line an utterance; or pack: a pack's file or name, whose sentences are said, at most `count` of them, of `part`
            (train, dev, test; "": all).
        other_voices_than: splits in the same folder none of whose voices may speak: what is measured on them is not learned from them.
        split: name of what is made.
        voices: synthesizers (`synthesis.engines`); one named twice speaks twice as often.
        times: utterances of every line, each by a voice drawn anew.
        hours: of speech, after which no utterance is begun; 0 = every line.
        speed_perturb: share by which an utterance is played back faster or slower, at most.
        seed: of every draw.
    """

    lines: str = ""
    pack: str = ""
    count: int = 5000
    part: str = ""
    other_voices_than: list[str] = field(default_factory=list)
    split: str = "synthetic"
    voices: list[str] = field(default_factory=lambda: ["espeak"])
    times: int = 1
    hours: float = 0.0
    speed_perturb: float = 0.1
    seed: int = 0

    def problems(self) -> list[str]:
        found = [] if self.pack or Path(self.lines).is_file() else [f"lines: {self.lines!r} is no file"]
        if bool(self.lines) == bool(self.pack):
            found = ["lines, pack: give one of the two, text or a pack"]
        found += split_problems(self.split)
        if not self.voices:
            found.append("voices: none; espeak is one")
        if self.times < 1:
            found.append(f"times: {self.times}, and must be at least 1")
        if not 0 <= self.speed_perturb < 0.5:
            found.append(f"speed_perturb: {self.speed_perturb} is not in [0, 0.5)")
        return found + [f"{name}: {getattr(self, name)} is negative" for name in ("hours", "seed", "count") if getattr(self, name) < 0]


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
        ValueError: options out of range, no line that can be said, a split that another recipe made; MissingPackage: a synthesizer that
            is not installed.
    """
    checks = checks or Checks()
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    where, texts, meanings = config.pack or config.lines, *_texts(config)
    options = {"version": _VERSION, **{name: value for name, value in asdict(config).items() if name not in ("lines", "other_voices_than")}}
    content = json.dumps([texts, meanings], sort_keys=True)
    preparation = Preparation(out, "synthetic", checks, options, {config.split: hashlib.sha256(content.encode()).hexdigest()})
    _refuse_voices(out, config)
    if preparation.done(config.split):
        return preparation
    preparation.check_own(config.split)
    for voice in dict.fromkeys(config.voices):
        open_engine(voice)  # what is missing is said before anything is removed
    rule = normalization(checks.text)
    meaning = {rule(text): custom for text, custom in zip(texts, meanings)}
    lines = [line for line in map(rule, texts) if line.strip()]
    said = [line for line in lines if _SAID.fullmatch(line)]
    if not said:
        raise ValueError(f"{where}: no line is of Latin letters and punctuation alone, without figures and other signs")
    report = preparation.begin(config.split)
    if len(said) < len(lines):
        report.note("lines with figures, signs or other letters, left out", len(lines) - len(said))
    folder = out / "audio" / config.split
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    planned = list(plan(said, config, folder))
    blocks = [tuple(planned[first:first + _BLOCK]) for first in range(0, len(planned), _BLOCK)]
    with open_executor(jobs, dask) as executor:
        made = list(_made(executor, blocks, config, 4 * (jobs or cores())))
    if not any(samples for _, samples in made):
        raise ValueError(f"{', '.join(dict.fromkeys(config.voices))}: no speech came of any line of {where}; try other --voices")
    if mute := sum(not samples for _, samples in made):
        report.note("utterances that their voice could not say", mute)
    with open_executor(jobs, dask, threads=True) as executor:
        preparation.executor = executor
        preparation.finish(config.split, (
            _cut(item, samples, meaning[item.text]) for item, samples in made if samples))
    return preparation


def _texts(config: SyntheticConfig) -> tuple[list[str], list[dict[str, Any]]]:
    """What is to be said, and of a pack what each of it means."""
    if not config.pack:
        lines = read_lines(config.lines)
        return lines, [{} for _ in lines]
    from voxkit.text.pack import check_spelling, load_pack
    from voxkit.text.pack_sentences import sentences

    pack = load_pack(config.pack)
    check_spelling(pack)
    found = sentences(pack, config.count, config.seed, config.part)
    return [s.text for s in found], [{"intent": s.intent, "kind": s.kind, "slots": dict(s.slots)} for s in found]


def _refuse_voices(out: Path, config: SyntheticConfig) -> None:
    """
    Raises:
        ValueError: a voice that another split has, which was to be kept apart; a split that is not there.
    """
    splits = read_json(out / "prepare.json").get("splits", {})
    for name in config.other_voices_than:
        if "voices" not in splits.get(name, {}).get("options", {}):
            raise ValueError(f"--other-voices-than {name}: no synthetic split of this name is in {out}; prepare it first")
        if shared := sorted(set(splits[name]["options"]["voices"]) & set(config.voices)):
            raise ValueError(f"--voices {' '.join(shared)}: split {name} has them too, and --other-voices-than keeps its voices apart; "
                             "take others")


def _cut(item: Item, samples: int, custom: dict[str, Any]) -> Cut:
    cut = file_cut(item.id, item.path, samples, item.text, speaker=item.voice, language="English")
    if custom:
        cut.supervisions[0].custom = custom
    return cut


def plan(lines: Sequence[str], config: SyntheticConfig, folder: Path) -> Iterator[Item]:
    """Who says what."""
    for number in range(config.times * len(lines)):
        seed = (config.seed, number)
        voice = config.voices[int(np.random.default_rng([*seed, 0]).integers(len(config.voices)))]
        id = f"{config.split}-{number:06d}"
        yield Item(id, lines[number % len(lines)], voice, seed, str(folder / f"{id}.flac"))


def _made(executor: Executor, blocks: Sequence[tuple[Item, ...]], config: SyntheticConfig, wave: int) -> Iterator[tuple[Item, int]]:
    """What is made, with its samples, until there is enough of it.

    Args:
        wave: blocks that are given out together where it is asked in between whether there is enough.
    """
    from tqdm import tqdm

    make = partial(_make, speed_perturb=config.speed_perturb, seed=config.seed)
    left = config.hours * 3600 * RATE or float("inf")
    wave = wave if config.hours else len(blocks)
    with tqdm(total=sum(map(len, blocks)), desc="synthesizing", disable=None, leave=False) as progress:
        for first in range(0, len(blocks), wave):
            for made in executor.map(make, blocks[first:first + wave]):
                progress.update(len(made))
                for item, samples in made:
                    if left > 0:
                        yield item, samples
                    else:
                        Path(item.path).unlink(missing_ok=True)
                    left -= samples
            if left <= 0:
                return


def _make(block: Sequence[Item], speed_perturb: float, seed: int) -> list[tuple[Item, int]]:
    """Write utterances → each with its samples, none where its voice fails."""
    from voxkit.audio.io import write_audio

    engines: dict[str, Engine] = {}
    made = []
    for item in block:
        if item.voice not in engines:
            engines[item.voice] = open_engine(item.voice, seed + item.seed[1])
        rng = np.random.default_rng([*item.seed, 1])
        found = speech(engines[item.voice], item.text.lower(), rng)
        if found is None:
            made.append((item, 0))
            continue
        wave, rate = found
        audio = sounds.unit(sounds.resample(wave, _playback(rate, speed_perturb, rng), RATE)) * 10 ** (rng.uniform(*_LEVELS) / 20)
        peak = float(np.abs(audio).max())
        write_audio(item.path, (audio * min(1.0, 0.98 / peak)).astype(np.float32))
        made.append((item, len(audio)))
    return made


def _playback(rate: int, share: float, rng: np.random.Generator) -> int:
    """A rate in Hz that is off by at most so much; a multiple of `_STEP`, where one is near enough."""
    rates = [low for low in range(_STEP, 2 * rate, _STEP) if abs(low - rate) <= share * rate]
    return int(rng.choice(rates)) if rates and share else rate


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare synthetic`; returns what runs them."""
    defaults: dict[str, Any] = asdict(SyntheticConfig())
    parser.add_argument("--lines", default="", help="text, a line an utterance")
    parser.add_argument("--pack", default="", help="in place of --lines: a pack's file or name, whose sentences are said")
    parser.add_argument("--part", default="", choices=["", "train", "dev", "test"], help="of a pack: sentences of this part alone")
    parser.add_argument("--other-voices-than", nargs="+", default=[], metavar="SPLIT",
                        help="synthetic splits whose voices are not to speak")
    parser.add_argument("--voices", nargs="+", default=defaults["voices"],
                        help="hibari, hibari:VOICE, pico:en-US, pico:en-GB, espeak; one named twice speaks twice as often (espeak)")
    for name, what in (("split", "name of what is made"), ("count", "sentences of a pack, at most; 0: all"),
                       ("times", "utterances of every line, each by a voice drawn anew"),
                       ("hours", "of speech, after which no utterance is begun; 0: every line"),
                       ("speed_perturb", "share by which an utterance is played back faster or slower, at most"),
                       ("seed", "of every draw")):
        parser.add_argument("--" + name.replace("_", "-"), type=type(defaults[name]), default=defaults[name],
                            help=f"{what} (default {defaults[name]})")
    return lambda args, checks: prepare_synthetic(args.out, SyntheticConfig(**{name: getattr(args, name) for name in defaults}),
                                                  checks=checks, jobs=args.jobs, dask=args.dask)
