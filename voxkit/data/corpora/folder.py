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

import os
from collections.abc import Callable
from pathlib import Path

from voxkit.data.corpora._listing import check_shares, hold_out, prepare_listing
from voxkit.data.corpora.readers import Listing
from voxkit.data.corpora.readers.kaldi import find_kaldi, read_kaldi
from voxkit.data.corpora.readers.manifests import find_manifests, read_manifests
from voxkit.data.corpora.readers.tables import find_tables, read_beside, read_tables
from voxkit.data.validate import Checks, Preparation

__all__ = ["add_arguments", "hold_out", "prepare_folder", "read_folder"]


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
    check_shares(dev, test)
    options = {"corpus_dir": str(Path(corpus_dir).absolute()), "columns": columns or {}}
    return prepare_listing(out, "folder", read_folder(corpus_dir, columns), dev=dev, test=test, seed=seed, options=options,
                         checks=checks or Checks(text="librispeech"), jobs=jobs, dask=dask)


def read_folder(corpus_dir: str | os.PathLike, columns: dict[str, str] | None = None) -> Listing:
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
