"""From utterances that a reader found to prepared sets: what lacks of dev and test is held out, audio is opened, everything is checked."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from voxkit.audio.decode import AudioError
from voxkit.data.corpora.readers import Listing, Utterance, is_file
from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps
from voxkit.data.reader import file_recording
from voxkit.data.validate import Checks, Preparation, Report, mono_cut

if TYPE_CHECKING:
    from lhotse.cut import Cut


def check_shares(dev: float, test: float) -> None:
    """Refuse shares to hold out that leave too little.

    Raises:
        ValueError: they are out of range.
    """
    if not (0 <= dev < 1 and 0 <= test < 1 and dev + test < 0.9):
        raise ValueError(f"shares dev {dev:g} and test {test:g}: each from 0 to below 1, and together below 0.9")


def prepare_listing(out: str | os.PathLike, corpus: str, found: Listing, *, dev: float, test: float, seed: int, options: dict[str, Any],
                  checks: Checks, jobs: int | None = None, dask: str | None = None) -> Preparation:
    """Make `cuts_<split>.jsonl.gz` of what a reader found, unless they are there.

    Args:
        corpus: name of the corpus.
        dev, test: shares of the training set to hold out where the corpus names none.
        seed: another seed holds out others.
        options: what else decides the result.
        checks, jobs, dask: as for `prepare_folder`.
    """
    sets, remarks = hold_out(found.sets, {"dev": dev, "test": test}, seed)
    stamps = {name: file_stamps({*found.files, *_audio_files(utterances)}) for name, utterances in sets.items()}
    preparation = Preparation(out, corpus, checks, {**options, "dev": dev, "test": test, "seed": seed}, stamps)
    missing = [name for name in sets if not preparation.done(name)]
    if missing:
        with open_executor(jobs, dask, threads=True) as executor:
            preparation.executor = executor
            for name in missing:
                report = preparation.begin(name)
                for remark in remarks.get(name, []):
                    report.note(remark, len(sets[name]))
                preparation.finish(name, _cuts(sets[name], report, executor))
    return preparation


def _audio_files(utterances: Sequence[Utterance]) -> Iterator[Any]:
    return (u.audio for u in utterances if u.audio and is_file(u.audio))


def hold_out(sets: dict[str, list[Utterance]], shares: dict[str, float],
             seed: int) -> tuple[dict[str, list[Utterance]], dict[str, list[str]]]:
    """What is lacking of dev and test, taken from the training set (from the only set, where it has no name).

    Speakers are held out whole where that comes near the share, else all utterances of a transcript.

    Returns:
        the sets, and remarks by set.
    """
    sets = {name or "train": list(utterances) for name, utterances in sets.items() if utterances}
    remarks: dict[str, list[str]] = defaultdict(list)
    for name, share in shares.items():
        if "train" not in sets or name in sets or share == 0:
            continue
        total = sum(map(len, sets.values()))
        units, how = _held_out_units(sets["train"], share * total, f"{name}|{seed}")
        first_of = {u.id: how(u) for u in reversed(sets["train"])}  # a duplicate follows the first of its name
        sets[name] = [u for u in sets["train"] if first_of[u.id] in units]
        sets["train"] = [u for u in sets["train"] if first_of[u.id] not in units]
        kind = "speakers" if how is _speaker else "transcripts"
        remarks[name].append(f"held out of the training set, {len(units)} {kind} whole")
        if not sets[name] or not sets["train"]:
            raise ValueError(f"{total} utterances are too few to hold out {share:.0%} of them as {name}; add data, give a {name} set, "
                             f"or leave it out with --{name} 0")
    return sets, remarks


def _speaker(utterance: Utterance) -> str:
    return utterance.speaker or ""


def _transcript(utterance: Utterance) -> str:
    return " ".join((utterance.text or utterance.id).lower().split())


def _held_out_units(utterances: Sequence[Utterance], wanted: float, salt: str) -> tuple[set[str], Callable[[Utterance], str]]:
    """Speakers, or transcripts, in a random order that the salt decides, until about `wanted` utterances are theirs."""
    for how in (_speaker, _transcript):
        sizes = Counter(how(u) for u in utterances)
        if how is _speaker and "" in sizes:
            continue
        chosen, count = set(), 0
        for unit in sorted(sizes, key=lambda u: hashlib.sha256(f"{salt}|{u}".encode()).digest()):
            if count < 0.9 * wanted and count + sizes[unit] <= max(1.4 * wanted, 1):
                chosen.add(unit)
                count += sizes[unit]
        if how is _transcript or count >= 0.5 * wanted and len(sizes) > len(chosen):
            break
    return chosen, how


def _cuts(utterances: Sequence[Utterance], report: Report, executor: Executor) -> Iterator[Cut]:
    from tqdm import tqdm

    batches = [utterances[i:i + 64] for i in range(0, len(utterances), 64)]
    for batch in tqdm(executor.map(_open_all, batches), total=len(batches), desc="opening audio", disable=None, leave=False):
        for utterance, cut, problem in batch:
            if problem:
                report.reject(utterance.id, *problem)
            else:
                yield cut


def _open_all(utterances: Sequence[Utterance]) -> list[tuple[Utterance, Cut | None, tuple[str, str] | None]]:
    return [(u, *_open(u)) for u in utterances]


def _open(utterance: Utterance) -> tuple[Cut | None, tuple[str, str] | None]:
    """The cut of an utterance, or why it cannot be one."""
    from lhotse import SupervisionSegment

    if utterance.problem:
        return None, utterance.problem
    if utterance.pair:
        return mono_cut(*utterance.pair), None
    path = utterance.audio
    assert path is not None  # a reader gives a file, a pair or a problem
    if not is_file(path):
        return None, ("missing audio", str(path))
    try:
        recording = file_recording(path, utterance.recording_id or utterance.id)
    except AudioError as error:
        return None, (error.reason, str(error))
    channel = recording.channel_ids[0] if utterance.channel is None else utterance.channel
    if channel not in recording.channel_ids:
        return None, ("missing channel", f"{path}: channel {channel} is asked for, there are {recording.num_channels}")
    end = recording.duration if utterance.end is None else utterance.end
    if end <= utterance.start:
        return None, ("empty audio", f"{path}: from {utterance.start:g} to {end:g} s")
    supervision = SupervisionSegment(id=utterance.id, recording_id=recording.id, start=utterance.start,
                                     duration=round(end - utterance.start, 8), channel=channel, text=utterance.text,
                                     speaker=utterance.speaker)
    return mono_cut(recording, supervision), None
