"""Your own speech, in whichever of these ways you keep it:

    a folder of audio with a table of transcripts: text.tsv, metadata.csv, train.tsv and test.tsv, JSON lines; with a header
        (audio, text, perhaps speaker, id, start, end, under their usual names) or just two columns, name and text
    a folder of audio with a text file beside each audio file
    a Kaldi directory (wav.scp, text, utt2spk, segments), or a folder of several
    lhotse manifests (cuts, or recordings and supervisions)

    voxkit prepare folder --corpus-dir /path/to/it --out data

gives the splits it names itself. What it lacks of train, dev and test is held out of the training set: whole speakers where they
are known and there are enough of them, else transcripts, so that no sentence is on both sides. Same folder, same splits.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from voxkit.audio.decode import AudioError
from voxkit.data.corpora.readers import Found, Utterance, is_file
from voxkit.data.corpora.readers.kaldi import find_kaldi, read_kaldi
from voxkit.data.corpora.readers.manifests import find_manifests, read_manifests
from voxkit.data.corpora.readers.tables import find_tables, read_beside, read_tables
from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps
from voxkit.data.reader import file_recording
from voxkit.data.validate import Checks, Preparation, Report, mono_cut

if TYPE_CHECKING:
    from lhotse.cut import Cut


def prepare_folder(out: str | os.PathLike, corpus_dir: str | os.PathLike, *, dev: float = 0.1, test: float = 0.1, seed: int = 0,
                   columns: dict[str, str] | None = None, checks: Checks | None = None, jobs: int | None = None,
                   dask: str | None = None) -> Preparation:
    """Make `cuts_<split>.jsonl.gz` under `out`, unless they are there.

    Args:
        out: data directory.
        corpus_dir: the folder, or one table or manifest of it.
        dev: share of the training set to hold out as dev where the folder names none; 0 holds out nothing.
        test: likewise.
        seed: another seed holds out others.
        columns: names of a table's columns that differ from the usual: {"audio": ..., "text": ..., "speaker": ...}.
        checks: what utterances must be like; by default transcripts in LibriSpeech's convention.
        jobs: threads; None takes every core.
        dask: address of a Dask scheduler to work on instead.

    Returns:
        The preparation, with a report per split.

    Raises:
        ValueError: nothing there that can be read, shares out of range, or nothing left of a split.
    """
    if not (0 <= dev < 1 and 0 <= test < 1 and dev + test < 0.9):
        raise ValueError(f"shares dev {dev:g} and test {test:g}: each from 0 to below 1, and together below 0.9")
    found = read_folder(corpus_dir, columns)
    sets, remarks = hold_out(found.sets, {"dev": dev, "test": test}, seed)
    stamps = {name: file_stamps({*found.files, *(u.audio for u in utterances if u.audio and is_file(u.audio))})
              for name, utterances in sets.items()}
    options = {"corpus_dir": str(Path(corpus_dir).absolute()), "dev": dev, "test": test, "seed": seed, "columns": columns or {}}
    preparation = Preparation(out, "folder", checks or Checks(text="librispeech"), options, stamps)
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


def read_folder(corpus_dir: str | os.PathLike, columns: dict[str, str] | None = None) -> Found:
    """Find out how speech is kept in a folder, and read it.

    Raises:
        ValueError: no such folder, or nothing in it that this recipe knows; the message says what it knows.
    """
    root, columns = Path(corpus_dir).expanduser().absolute(), {k: v for k, v in (columns or {}).items() if v}
    if root.is_file():
        is_manifest = ".json" in root.name and any(kind in root.name for kind in ("cuts", "recordings", "supervisions"))
        return read_manifests([root]) if is_manifest else read_tables([root], root.parent, columns)
    if not root.is_dir():
        raise ValueError(f"{corpus_dir}: there is no such folder")
    if kaldi := find_kaldi(root):
        return read_kaldi(kaldi)
    if manifests := find_manifests(root):
        return read_manifests(manifests)
    if tables := find_tables(root):
        return read_tables(tables, root, columns)
    beside = read_beside(root)
    if not beside.files:
        what = f"{len(beside.sets[''])} audio files but no transcripts" if beside.sets[""] else "no audio"
        raise ValueError(f"{root}: {what}. Put a text.tsv there, one line per audio file: name <tab> text; "
                         "or give a Kaldi directory (wav.scp, text) or lhotse manifests (cuts*.jsonl.gz)")
    return beside


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


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare folder`; returns what runs them."""
    parser.add_argument("--corpus-dir", required=True, metavar="PATH", help="the folder, or one table or manifest of it")
    parser.add_argument("--dev", type=float, default=0.1, help="share to hold out as dev where none is named (default 0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="share to hold out as test where none is named (default 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="another seed holds out others (default 0)")
    for kind in ("audio", "text", "speaker", "id"):
        parser.add_argument(f"--{kind}-column", metavar="NAME", help=f"column of the table that holds the {kind}, where it is not guessed")
    return lambda args, checks: prepare_folder(
        args.out, args.corpus_dir, dev=args.dev, test=args.test, seed=args.seed, checks=checks, jobs=args.jobs, dask=args.dask,
        columns={kind: name for kind in ("audio", "text", "speaker", "id") if (name := getattr(args, f"{kind}_column"))})
