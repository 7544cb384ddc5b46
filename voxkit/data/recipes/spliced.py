"""Speech for text that nobody has said: runs of words are taken from utterances whose words have times, and put together anew (data
splicing, Zhao et al. 2021, arXiv 2105.00858). A model learns from it what its few hours of speech never said: the phrases of a game, or a
language model's.

    voxkit align exp/RUN --cuts data/cuts_train.jsonl.gz --out-cuts data/aligned/cuts_train.jsonl.gz
    voxkit prepare spliced --cuts data/aligned/cuts_train.jsonl.gz --lines lines.txt --out data

makes the split `spliced`, to be trained on beside the other: data.train=[train,spliced]. A line is said in as few runs as there are, each
by the speaker of the one before where that speaker has it. A word that no utterance has ends an utterance; the next begins behind it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps, load_cuts
from voxkit.data.validate import RATE, Checks, Preparation, file_cut, split_problems
from voxkit.text.normalise import normalisation

if TYPE_CHECKING:
    from lhotse.cut import Cut

_VERSION = 1  # part of the fingerprint: a change in how the corpus sounds makes it anew
_MARGIN = 0.1  # seconds of pause kept before and behind a run, at most
_LEVEL = 0.06  # root mean square that utterances are brought to
_FADE = 0.005  # seconds that runs overlap
_BLOCK = 50  # utterances per job


@dataclass
class SplicedConfig:
    """What is said with what.

    Attributes:
        cuts: manifest whose supervisions have the times of their words (lhotse alignment "word"), as `voxkit align --out-cuts` writes.
        lines: text file, a line an utterance.
        split: name of what is made.
        hours: of speech, at most; 0 = every line once.
        longest: words of a run, at most; short runs make more that is new, long ones sound better.
        fewest: words of an utterance, at least.
        shift: seconds by which words end later than their times say. Whisper's word times, and those fitted to them, are early: with 0.06 a
            recogniser misheard least of what was put together.
        seed: of the choice among runs of the same words.
    """

    cuts: str = ""
    lines: str = ""
    split: str = "spliced"
    hours: float = 0.0
    longest: int = 4
    fewest: int = 3
    shift: float = 0.0
    seed: int = 0

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)}, and must be at least 1" for name in ("longest", "fewest") if getattr(self, name) < 1]
        found += [f"{name}: {getattr(self, name)!r} is no file" for name in ("cuts", "lines") if not Path(getattr(self, name)).is_file()]
        found += split_problems(self.split)
        return found + ([f"hours: {self.hours} is negative"] if self.hours < 0 else [])


@dataclass(frozen=True)
class Run:
    """Consecutive words of an utterance: where they are in its audio file, in seconds, and the gain that makes utterances equally loud.

    Attributes:
        words: (word, start, duration), from the beginning of the run.
    """

    source: str
    start: float
    duration: float
    gain: float
    words: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Spliced:
    """An utterance to be made."""

    id: str
    runs: tuple[Run, ...]
    path: str

    @property
    def text(self) -> str:
        return " ".join(word for run in self.runs for word, *_ in run.words)

    @property
    def seconds(self) -> float:
        return sum(run.duration - _FADE for run in self.runs) + _FADE


@dataclass(frozen=True)
class Source:
    """An utterance to take runs from.

    Attributes:
        path, start: of its audio, in seconds; gain: as Run's.
        words: (word, start, end) from the beginning of the utterance, in seconds.
        borders: one more than words, where a run may begin or end: the least between two words, the margins at the ends.
    """

    path: str
    speaker: str | None
    start: float
    gain: float
    words: tuple[tuple[str, float, float], ...]
    borders: tuple[float, ...]


class Inventory:
    """Where every run of words is heard.

    Args:
        sources: at least one.
        longest: words of a run.
    """

    def __init__(self, sources: Sequence[Source], longest: int) -> None:
        self.sources, self.longest = sources, longest
        self.places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        for index, source in enumerate(sources):
            words = [word for word, *_ in source.words]
            for first in range(len(words)):
                for last in range(first + 1, min(first + longest, len(words)) + 1):
                    self.places[tuple(words[first:last])].append((index, first))

    def known(self, words: Sequence[str]) -> Iterator[list[str]]:
        """The longest stretches of a text that have no unknown word."""
        stretch: list[str] = []
        for word in words:
            if (word,) in self.places:
                stretch.append(word)
            else:
                yield stretch
                stretch = []
        yield stretch

    def cover(self, words: Sequence[str], rng: random.Random) -> list[Run]:
        """Known words → as few runs as there are, of few speakers."""
        count = len(words)
        fewest, length = [0.0] * (count + 1), [1] * count
        for first in reversed(range(count)):
            lengths = [n for n in range(1, min(self.longest, count - first) + 1) if tuple(words[first:first + n]) in self.places]
            fewest[first], length[first] = min((1 + fewest[first + n] + 1e-3 * rng.random(), n) for n in lengths)
        found, first, speaker = [], 0, None
        while first < count:
            places = self.places[tuple(words[first:first + length[first]])]
            same = [place for place in places if self.sources[place[0]].speaker == speaker]
            index, at = rng.choice(same or places)
            speaker = self.sources[index].speaker
            found.append(self._run(self.sources[index], at, length[first]))
            first += length[first]
        return found

    def _run(self, source: Source, first: int, count: int) -> Run:
        words = source.words[first:first + count]
        start = max(source.borders[first], words[0][1] - _MARGIN)
        end = max(min(source.borders[first + count], words[-1][2] + _MARGIN), start + 2 * _FADE)
        times = tuple((word, round(max(low - start, 0.0), 4), round(min(high, end) - max(low, start), 4)) for word, low, high in words)
        return Run(source.path, source.start + start, end - start, source.gain, times)


def prepare_spliced(out: str | os.PathLike, config: SplicedConfig, *, checks: Checks | None = None, jobs: int | None = None,
                    dask: str | None = None) -> Preparation:
    """Make the split under `out`, unless it is there: audio/<split>/<id>.flac and cuts with the times of words.

    Raises:
        ValueError: options out of range, no word times, no line of which enough words are known.
    """
    checks = checks or Checks()
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    preparation = Preparation(out, "spliced", checks, {"version": _VERSION, **asdict(config)},
                              {config.split: file_stamps(Path(path) for path in (config.cuts, config.lines))})
    if preparation.done(config.split):
        return preparation
    preparation.check_own(config.split)
    report = preparation.begin(config.split)
    folder = out / "audio" / config.split
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cuts = list(load_cuts(config.cuts))
    rule = normalisation(checks.text)
    lines = [rule(line) for line in Path(config.lines).read_text(encoding="utf-8").splitlines()]
    with open_executor(jobs, dask) as executor:
        timed = [cut for cut in cuts if (cut.supervisions[0].alignment or {}).get("word")]
        if not timed:
            raise ValueError(f"{config.cuts}: no utterance has the times of its words; make them with `voxkit align RUN --cuts CUTS "
                             "--out-cuts ALIGNED`")
        if len(timed) < len(cuts):
            report.note("utterances without word times", len(cuts) - len(timed))
        sources = [source for block in executor.map(partial(_sources, shift=config.shift), _blocks(timed)) for source in block]
        inventory = Inventory(sources, config.longest)
        planned = list(plan(inventory, lines, config, folder))
        if not planned:
            raise ValueError(f"{config.lines}: no line has {config.fewest} words one after the other that {config.cuts} has")
        unknown = sum((word,) not in inventory.places for line in lines for word in line.split())
        report.note("words of the lines that no utterance has", unknown)
        made = {id: seconds for block in executor.map(_make, _blocks(planned)) for id, seconds in block}
    with open_executor(jobs, dask, threads=True) as executor:
        preparation.executor = executor
        preparation.finish(config.split, (_cut(item, made[item.id]) for item in planned))
    return preparation


def plan(inventory: Inventory, lines: Sequence[str], config: SplicedConfig, folder: Path) -> Iterator[Spliced]:
    """What is made of the lines, until there is enough."""
    total, number = 0.0, 0
    for index, line in enumerate(lines):
        rng = random.Random(f"{config.seed}/{index}/{line}")
        for words in inventory.known(line.split()):
            if len(words) < config.fewest:
                continue
            if 0 < config.hours * 3600 <= total:
                return
            id = f"{config.split}-{number:06d}"
            item = Spliced(id, tuple(inventory.cover(words, rng)), str(folder / f"{id}.flac"))
            number, total = number + 1, total + item.seconds
            yield item


def splice(pieces: Sequence[np.ndarray], fade: int) -> np.ndarray:
    """Waveforms [S_i], the end of each blended with the beginning of the next over `fade` samples → [sum S_i - fade · (n - 1)]."""
    out = np.zeros(sum(map(len, pieces)) - fade * (len(pieces) - 1), np.float32)
    rise = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / max(fade, 1)).astype(np.float32) ** 2
    at = 0
    for piece in pieces:
        shaped = piece.astype(np.float32, copy=True)
        shaped[:fade] *= rise
        shaped[len(shaped) - fade:] *= rise[::-1]
        out[at:at + len(shaped)] += shaped
        at += len(shaped) - fade
    return out


def _blocks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[first:first + _BLOCK] for first in range(0, len(items), _BLOCK)]


def _sources(cuts: Sequence[Cut], shift: float) -> list[Source]:
    """Cuts with word times → what they are cut into."""
    from voxkit.audio.io import read_audio

    found = []
    for cut in cuts:
        wave = read_audio(cut.recording.sources[0].source, start=cut.start, duration=cut.duration)[0].numpy()
        items = [item.with_offset(-cut.start) for item in cut.supervisions[0].alignment["word"]]  # lhotse has the recording's time
        starts = [max(0.0, item.start + (shift if n else 0.0)) for n, item in enumerate(items)]
        ends = [min(cut.duration, item.end + shift) for item in items]
        words = tuple(zip((item.symbol for item in items), starts, ends))
        borders = (0.0, *((end + start) / 2 for end, start in zip(ends, starts[1:])), cut.duration)
        level = max(float(np.sqrt(np.mean(np.square(wave)))), 1e-4)
        found.append(Source(cut.recording.sources[0].source, cut.supervisions[0].speaker, cut.start, _LEVEL / level, words, borders))
    return found


def _make(block: Sequence[Spliced]) -> list[tuple[str, int]]:
    """Write utterances → id and samples of each."""
    from voxkit.audio.io import read_audio, write_audio

    made = []
    for item in block:
        pieces = [read_audio(run.source, start=run.start, duration=run.duration)[0].numpy() * np.float32(run.gain) for run in item.runs]
        audio = splice(pieces, round(_FADE * RATE))
        peak = float(np.abs(audio).max(initial=0.0))
        write_audio(item.path, audio / peak if peak > 1 else audio)
        made.append((item.id, len(audio)))
    return made


def _cut(item: Spliced, samples: int) -> Cut:
    words, at = [], 0.0
    for run in item.runs:
        words += [(word, round(at + start, 4), length) for word, start, length in run.words]
        at += run.duration - _FADE
    return file_cut(item.id, item.path, samples, item.text, speaker="spliced", words=words)


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare spliced`; returns what runs them."""
    for name, default in asdict(SplicedConfig()).items():
        parser.add_argument("--" + name, type=type(default), default=default, required=name in ("cuts", "lines"),
                            help={"cuts": "aligned cuts: those `voxkit align --out-cuts` wrote", "lines": "text, a line an utterance"}.get(
                                name, f"default {default}"))
    return lambda args, checks: prepare_spliced(args.out, SplicedConfig(**{name: getattr(args, name) for name in asdict(SplicedConfig())}),
                                                checks=checks, jobs=args.jobs, dask=args.dask)
