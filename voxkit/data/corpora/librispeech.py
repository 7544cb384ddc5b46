"""LibriSpeech (Panayotov et al. 2015, openslr.org/12) and mini LibriSpeech (openslr.org/31), read and downloaded by lhotse.

    voxkit prepare librispeech --parts mini --out data                              downloads into data/download
    voxkit prepare librispeech --parts mini --corpus-dir /path/to/LibriSpeech --out data
    voxkit prepare librispeech --parts train-clean-100 dev-clean test-clean --corpus-dir ... --out data

Each part becomes the split of its name. `mini` is train-clean-5, dev-clean-2 and test-clean-2; nobody publishes an archive
of the last, so where it is not in the tree it is the utterances of ten speakers of test-clean. `full` is all of LibriSpeech.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from voxkit.audio.decode import AudioError
from voxkit.data.executors import open_executor
from voxkit.data.manifests import file_stamps
from voxkit.data.reader import file_recording
from voxkit.data.validate import Checks, Preparation, Report, mono_cut
from voxkit.files import read_lines

if TYPE_CHECKING:
    from lhotse.cut import Cut

FULL = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")
MINI = ("train-clean-5", "dev-clean-2", "test-clean-2")
PARTS = FULL + MINI
GROUPS = {"full": FULL, "mini": MINI}

_OPENSLR = "https://www.openslr.org/resources"
CHECKSUMS = {  # of the archives, as openslr.org (31) and torchaudio (12) give them
    "dev-clean": "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "train-clean-5": "md5:5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "md5:6d7ab67ac6a1d2c993d050e16d61080d",
}

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
    from lhotse.recipes import librispeech as at_lhotse

    target = Path(out).absolute() / "download"
    target.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys("test-clean" if name == "test-clean-2" else name for name in part_names(parts)):
        archive, done = target / f"{name}.tar.gz", target / "LibriSpeech" / name / ".completed"
        if done.is_file():
            continue
        at_lhotse.resumable_download(f"{_OPENSLR}/{31 if name in MINI else 12}/{archive.name}", filename=archive)
        try:
            check_archive(archive, name)
            with tarfile.open(archive) as tar:
                unpack(tar, target)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise ValueError(f"{archive} is not whole, or not openslr.org's ({error}); the same command again continues the download, "
                             "if that does not help remove the file first") from error
        done.touch()
    return target / "LibriSpeech"


def unpack(tar: tarfile.TarFile, target: Path) -> None:
    """Unpack without links out of the folder, devices or files elsewhere: by PEP 706's `data` filter; where this Python has none (before
    3.10.12 and 3.11.4) nothing but files and folders whose names lie in `target`.

    Raises:
        tarfile.TarError: a member that is something else.
    """
    if hasattr(tarfile, "data_filter"):
        tar.extractall(target, filter="data")
        return
    for member in tar.getmembers():
        inside = (target / member.name).resolve().is_relative_to(target.resolve())
        if not inside or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is a link, a device or lies outside the folder")
    tar.extractall(target)


def check_archive(archive: Path, part: str) -> None:
    """Compare an archive with what openslr.org publishes.

    Raises:
        ValueError: it is another.
    """
    algorithm, wanted = CHECKSUMS[part].split(":")
    digest = hashlib.new(algorithm)
    with open(archive, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if found != wanted:
        raise ValueError(f"{archive} is not whole, or not the archive that openslr.org publishes ({algorithm} {found[:12]}..., and not "
                         f"{wanted[:12]}...); the same command again continues the download, if that does not help remove the file first")


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
    from lhotse import SupervisionSegment

    cuts, rejected, named = [], [], set()
    for number, line in enumerate(read_lines(transcript), 1):
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
                recording = file_recording(audio, id)
            except AudioError as error:
                rejected.append((id, error.reason, str(error)))
                continue
            cuts.append(mono_cut(recording, SupervisionSegment(id=id, recording_id=id, start=0.0, duration=recording.duration, channel=0,
                                                               text=text.strip(), language="English", speaker=id.partition("-")[0])))
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
