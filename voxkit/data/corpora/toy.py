"""The toy corpus: players' commands, synthesized on the spot by espeak-ng with many voices, in rooms and noise.

    voxkit prepare toy --out data

makes six splits: train, dev, test, and train_domain, dev_domain, test_domain, where the same players speak over the
radio of a squadron, in other words. dev and test share neither a sentence nor a voice with train or with each other. Every word has
its place in time (lhotse alignment "word"). Same options, same samples, however many cores.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path

from voxkit.data.corpora.synthesis.grammar import sentences, vocabulary
from voxkit.data.corpora.synthesis.utterance import Block, Made, PlannedUtterance, make_block
from voxkit.data.corpora.synthesis.voices import ACCENTS
from voxkit.data.executors import open_executor
from voxkit.data.validate import Checks, Preparation, file_cut
from voxkit.optional import require

_VERSION = 4  # part of the fingerprint: a change in how the corpus sounds makes it anew
VOICES = {"train": 240, "dev": 30, "test": 60}  # speakers; each with two accents
_BLOCK = 25  # utterances per block; part of what decides the samples


@dataclass
class ToyConfig:
    """How much of everything.

    Attributes:
        seed: another seed is another corpus.
        num_train: utterances of 1.7 s on average; likewise the others.
        num_domain: utterances of train_domain; dev_domain and test_domain are half as large as dev and test.
    """

    seed: int = 0
    num_train: int = 1800
    num_dev: int = 150
    num_test: int = 300
    num_domain: int = 800

    def problems(self) -> list[str]:
        return [f"{name}: {value}, and must be at least 2" for name, value in asdict(self).items() if name != "seed" and value < 2]


def prepare_toy(out: str | os.PathLike, config: ToyConfig | None = None, *, checks: Checks | None = None,
                jobs: int | None = None, dask: str | None = None) -> Preparation:
    """Make the corpus under `out`, unless it is there.

    Args:
        out: data directory; audio goes into its folder `audio`.
        config: how much of everything.
        checks: as for every corpus.
        jobs: processes; None takes every core.
        dask: address of a Dask scheduler to work on instead.

    Returns:
        The preparation, with a report per split.

    Raises:
        ValueError: options out of range.
        MissingPackage: espeakng-loader is not installed.
    """
    config, checks = config or ToyConfig(), checks or Checks()
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    out = Path(out).absolute()
    preparation = Preparation(out, "toy", checks, {"version": _VERSION, **asdict(config)})
    plans = plan(config)
    missing = [split for split in plans if not preparation.done(split)]
    if not missing:
        return preparation
    require("espeakng_loader", "toy", why="the toy corpus")  # say so before any worker does
    for split in missing:
        preparation.begin(split)
        shutil.rmtree(out / "audio" / split, ignore_errors=True)
    blocks = {split: _blocks(plans[split], out / "audio" / split, config.seed) for split in missing}
    with open_executor(jobs, dask) as executor, open_executor(jobs, dask, threads=True) as preparation.executor:
        made = _make(executor, [block for split in missing for block in blocks[split]])
        for split in missing:  # one is checked while the next is made
            done = {m.id: m for block in itertools.islice(made, len(blocks[split])) for m in block}
            preparation.finish(split, [_cut(done[u.id], u) for u in plans[split]])
        next(made, None)  # its end: a generator left open would cancel its jobs when the cluster is gone
    return preparation


def plan(config: ToyConfig) -> dict[str, list[PlannedUtterance]]:
    """Who says what in each split; held-out sentences and voices are decided here."""
    voices = split_voices()
    sizes = {"train": config.num_train, "dev": config.num_dev, "test": config.num_test}
    plans = {}
    for part, size in sizes.items():
        plans[part] = _utterances(part, part, "game", size, voices[part], config.seed)
    sizes = {"train": config.num_domain, "dev": max(2, config.num_dev // 2), "test": max(2, config.num_test // 2)}
    for part, size in sizes.items():
        plans[f"{part}_domain"] = _utterances(f"{part}_domain", part, "domain", size, voices[part], config.seed)
    return plans


def split_voices() -> dict[str, list[str]]:
    """Names of the speakers of each part; `synthesis.voices.timbre` knows what they sound like."""
    return {part: [f"{part}{i:03d}" for i in range(count)] for part, count in VOICES.items()}


def _utterances(split: str, part: str, domain: str, size: int, variants: list[str], seed: int) -> list[PlannedUtterance]:
    """Sentences that bring the words that were rare so far, so that none is heard too seldom to be learned."""
    rng = random.Random(f"{split}|{seed}")
    by_template = sentences(domain, part, seed)
    heard: Counter[str] = Counter()
    said: Counter[str] = Counter()

    def worth(sentence: str) -> int:
        return -(1 + min(heard[w] for w in sentence.split())) * (1 + said[sentence])

    chosen: list[PlannedUtterance] = []
    while len(chosen) < size:
        text = max((rng.choice(rng.choice(by_template)) for _ in range(24)), key=worth)
        said[text] += 1
        heard.update(text.split())
        variant, accent = variants[rng.randrange(len(variants))], ACCENTS[rng.randrange(len(ACCENTS))]
        chosen.append(PlannedUtterance(f"{split}-{len(chosen):05d}", text, accent, variant, domain == "domain", rng.getrandbits(48)))
    return chosen


def _blocks(utterances: list[PlannedUtterance], directory: Path, seed: int) -> list[Block]:
    words = tuple(sorted(vocabulary()))
    voices = sorted({(u.accent, u.variant) for u in utterances})
    blocks = []
    for first in range(0, len(utterances), _BLOCK):
        rng = random.Random(f"{utterances[first].id}|{seed}")
        crowd = tuple(rng.choice(voices) for _ in range(4))
        blocks.append(Block(tuple(utterances[first:first + _BLOCK]), crowd, words, str(directory), rng.getrandbits(31), seed))
    return blocks


def _make(executor: Executor, blocks: list[Block]) -> Iterator[list[Made]]:
    """What became of each block, in their order; all are begun at once."""
    from tqdm import tqdm

    return iter(tqdm(executor.map(make_block, blocks), total=len(blocks), desc="synthesizing", disable=None, leave=False))


def _cut(made: Made, utterance: PlannedUtterance):
    return file_cut(made.id, made.path, made.samples, utterance.text, speaker=utterance.speaker, language="English", words=made.words)


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare toy`; returns what runs them."""
    for name, default in asdict(ToyConfig()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default, help=f"default {default}")
    return lambda args, checks: prepare_toy(args.out, ToyConfig(**{name: getattr(args, name) for name in asdict(ToyConfig())}),
                                            checks=checks, jobs=args.jobs, dask=args.dask)
