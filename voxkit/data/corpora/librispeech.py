"""LibriSpeech (Panayotov et al. 2015, openslr.org/12) and mini LibriSpeech (openslr.org/31), read and downloaded by lhotse.

    voxkit prepare librispeech --parts mini --out data                              downloads into data/download
    voxkit prepare librispeech --parts mini --corpus-dir /path/to/LibriSpeech --out data
    voxkit prepare librispeech --parts train-clean-100 dev-clean test-clean --corpus-dir ... --out data

Each part becomes the split of its name. `mini` is train-clean-5, dev-clean-2 and test-clean-2; nobody publishes an archive
of the last, so where it is not in the tree it is the utterances of ten speakers of test-clean. `full` is all of LibriSpeech.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps
from voxkit.data.validate import Checks, Preparation, Report, mono_cut

if TYPE_CHECKING:
    from lhotse.cut import Cut

FULL = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")
MINI = ("train-clean-5", "dev-clean-2", "test-clean-2")
PARTS = FULL + MINI
GROUPS = {"full": FULL, "mini": MINI}

_TEST_CLEAN_2 = ("1320", "1580", "1995", "2094", "2300", "2830", "2961", "3570", "3575", "3729")  # speakers of test-clean


def prepare_librispeech(out: str | os.PathLike, parts: Sequence[str] = ("mini",), corpus_dir: str | os.PathLike | None = None, *,
                        checks: Checks | None = None, jobs: int | None = None, dask: str | None = None) -> Preparation:
    """Make `cuts_<part>.jsonl.gz` under `out` for each part that is not there already.

    Args:
        out: data directory.
        parts: names of parts, "mini" or "full".
        corpus_dir: the folder LibriSpeech, or the one that holds it; None downloads the parts into `out`/download.
        checks: what utterances must be like; by default transcripts in LibriSpeech's own convention.
        jobs: threads; None takes every core.
        dask: address of a Dask scheduler to work on instead.

    Returns:
        The preparation, with a report per split.

    Raises:
        ValueError: a part nobody knows or that is not in the tree, or nothing left of one.
        OSError: the download failed; doing it again continues.
    """
    names = part_names(parts)
    root = download_librispeech(out, names) if corpus_dir is None else corpus_root(corpus_dir)
    if absent := [name for name in names if not _speakers(root, name)]:
        there = [name for name in PARTS if _speakers(root, name)]
        raise ValueError(f"{root} has no {', '.join(absent)}; there are: {', '.join(there) or 'no parts of LibriSpeech'}")
    transcripts = {name: sorted(t for speaker in _speakers(root, name) for t in speaker.rglob("*.trans.txt")) for name in names}
    stamps = {name: file_stamps({f for t in transcripts[name] for f in (t, t.parent)}) for name in names}
    preparation = Preparation(out, "librispeech", checks or Checks(text="librispeech"), {}, stamps)
    missing = [name for name in names if not preparation.done(name)]
    if missing:
        with open_executor(jobs, dask, threads=True) as executor:
            preparation.executor = executor
            for name in missing:
                report = preparation.begin(name)
                preparation.finish(name, _cuts(transcripts[name], report, executor))
    return preparation


def part_names(parts: Sequence[str]) -> list[str]:
    """Names of parts, with "mini" and "full" spelt out.

    Raises:
        ValueError: a name nobody knows.
    """
    names = [name for part in ([parts] if isinstance(parts, str) else parts) for name in GROUPS.get(part, (part,))]
    if unknown := [name for name in names if name not in PARTS]:
        raise ValueError(f"LibriSpeech has no part {', '.join(unknown)}; there are: {', '.join((*GROUPS, *PARTS))}")
    return list(dict.fromkeys(names))


def corpus_root(corpus_dir: str | os.PathLike) -> Path:
    """The folder that holds the parts: the given one, or LibriSpeech inside it.

    Raises:
        ValueError: there is no such folder.
    """
    root = Path(corpus_dir).expanduser().absolute()
    if not root.is_dir():
        raise ValueError(f"--corpus-dir {corpus_dir}: there is no such folder; leave it out to download")
    inside = root / "LibriSpeech"
    return inside if inside.is_dir() and not any((root / part).is_dir() for part in PARTS) else root


def download_librispeech(out: str | os.PathLike, parts: Sequence[str] = ("mini",)) -> Path:
    """Get the archives of parts from openslr.org and unpack them, unless they are there; a broken download is continued.

    Returns:
        The folder with the parts, `out`/download/LibriSpeech.

    Raises:
        ValueError: an archive that is not whole; doing it again continues.
        OSError: no connection, no space.
    """
    from lhotse.recipes.librispeech import download_librispeech as download

    target = Path(out).absolute() / "download"
    archives = dict.fromkeys("test-clean" if name == "test-clean-2" else name for name in part_names(parts))
    for name in archives:
        try:
            download(target, dataset_parts=[name])
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"{target / name}.tar.gz is not whole ({error}); the same command again continues the download, "
                             "if that does not help remove the file first") from error
    return target / "LibriSpeech"


def _speakers(root: Path, part: str) -> list[Path]:
    """Folders of the speakers of a part; none where the part is not there."""
    if part == "test-clean-2" and not (root / part).is_dir():
        folders = [root / "test-clean" / speaker for speaker in _TEST_CLEAN_2]
        return folders if all(f.is_dir() for f in folders) else []
    return sorted(f for f in (root / part).glob("*") if f.is_dir())


def _cuts(transcripts: Sequence[Path], report: Report, executor: Executor) -> Iterator[Cut]:
    from tqdm import tqdm

    chapters = executor.map(_chapter, transcripts)
    for cuts, rejected in tqdm(chapters, total=len(transcripts), desc="chapters", disable=None, leave=False):
        for entry in rejected:
            report.reject(*entry)
        yield from cuts


def _chapter(transcript: Path) -> tuple[list[Cut], list[tuple[str, str, str]]]:
    """The cuts of one chapter, and (id, reason, detail) of what cannot become one."""
    from lhotse.recipes.librispeech import parse_utterance

    part = transcript.parents[2]
    cuts, rejected, named = [], [], set()
    for number, line in enumerate(transcript.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        id, _, text = line.strip().partition(" ")
        if not id:
            continue
        named.add(id)
        audio = transcript.parent / f"{id}.flac"
        if not text.strip():
            rejected.append((id, "empty transcript", f"{transcript}:{number}"))
        elif not audio.is_file():
            rejected.append((id, "missing audio", str(audio)))
        else:
            try:
                cuts.append(mono_cut(*parse_utterance(part, line, {})))
            except Exception as error:  # whatever a decoder may throw at a broken header
                rejected.append((id, "corrupt audio", f"{audio}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"))
    rejected += [(f.stem, "missing transcript", f"{f} has no line in {transcript.name}")
                 for f in sorted(transcript.parent.glob("*.flac")) if f.stem not in named]
    return cuts, rejected


def add_arguments(parser) -> Callable:
    """Options of `voxkit prepare librispeech`; returns what runs them."""
    parser.add_argument("--parts", nargs="+", default=["mini"], metavar="PART", help=f"{', '.join((*GROUPS, *PARTS))} (default mini)")
    parser.add_argument("--corpus-dir", help="a tree that is there; without it the parts are downloaded into OUT/download")
    parser.add_argument("--download-only", action="store_true", help="get the archives, prepare nothing")

    def prepare(args, checks: Checks) -> Preparation | None:
        if args.download_only:
            print(f"downloaded: {download_librispeech(args.out, args.parts)}")
            return None
        return prepare_librispeech(args.out, args.parts, args.corpus_dir, checks=checks, jobs=args.jobs, dask=args.dask)

    return prepare
