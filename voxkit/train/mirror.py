"""Copies of checkpoints at any fsspec URL: a machine may go, the run continues elsewhere.

    <url>/step-00001200/…          the checkpoint's files
    <url>/step-00001200.complete   written last, names every file and its size: without it the copy does not count
    <url>/run/metrics.json …       small files of the run directory
"""

from __future__ import annotations

import collections
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from voxkit.checkpoint.format import damage, inside
from voxkit.optional import available, require

log = logging.getLogger("voxkit.train")

TRIES, PAUSE = 4, 2.0  # per checkpoint; seconds before the second try, doubled each time
WAITING = 3  # checkpoints that may wait for a slow mirror, and stay on the disk as long; older ones are left out

_MARK = ".complete"
_STEP = re.compile(r"step-\d+")
_RUN_FILES = ("metrics.json", "results.csv", "train.log", "config.yaml", "budget.json")


class Mirror:
    """Uploads in a thread of its own, one checkpoint after the other; a failure is tried again, then named and left.

    Args:
        url: where to; what is before `://` says which file system (s3 and gs need their package).
        run_dir: whose small files go along.
        every: upload one in so many of the checkpoints that are pushed.

    Raises:
        MissingPackage: the file system's package is not installed.
        ValueError: fsspec knows no such file system.
    """

    def __init__(self, url: str, run_dir: Path, every: int = 1) -> None:
        self.url, self.run_dir, self.every = url.rstrip("/"), run_dir, every
        self.failed = 0
        self.fs, self.root = _file_system(self.url)
        self._pushed, self._last = 0, ""
        self._waiting: collections.deque[tuple[Path, set[str]]] = collections.deque()
        self._uploading = ""
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> list[str]:
        """Names of checkpoints that are being uploaded or wait for it, and must not be deleted."""
        with self._changed:
            return [self._uploading, *(path.name for path, _ in self._waiting)]

    def push(self, checkpoint: Path, keep: Iterable[str], always: bool = False) -> None:
        """Upload a checkpoint in the background, then delete those from the mirror that are not in `keep`."""
        self._pushed += 1
        if not always and (self._pushed - 1) % self.every:
            return
        self._last = checkpoint.name
        with self._changed:
            again = [item for item in self._waiting if item[0].name == checkpoint.name]
            for item in again:
                self._waiting.remove(item)
            self._waiting.append((checkpoint, {*keep, checkpoint.name}))
            while len(self._waiting) > WAITING:
                log.info("the mirror is slower than the checkpoints come: %s is left out of it", self._waiting.popleft()[0].name)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
            self._thread.start()

    def push_last(self, checkpoint: Path, keep: Iterable[str]) -> None:
        """Upload the last checkpoint of a run unless it was pushed already."""
        if self._last != checkpoint.name:
            self.push(checkpoint, keep, always=True)

    def close(self) -> None:
        """Wait until everything is uploaded."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def complete(self) -> dict[str, dict[str, Any]]:
        """The checkpoints that are there in whole: name → {file: size}."""
        self.fs.invalidate_cache()
        if not self.fs.exists(self.root):
            return {}
        marks = [path for path in self.fs.ls(self.root, detail=False) if path.endswith(_MARK)]
        found = {}
        for path in sorted(marks):
            try:
                found[path.rsplit("/", 1)[-1][:-len(_MARK)]] = json.loads(self.fs.cat_file(path))["files"]
            except (OSError, ValueError, KeyError):
                log.warning("ignoring %s in the mirror: not readable", path)
        return found

    def fetch(self, checkpoints: Path, run: str = "") -> Path | None:
        """Bring the newest whole checkpoint into an empty run; None where there is none.

        Args:
            run: name of the run that is to go on from it; empty = any.

        Raises:
            ValueError: it is of a run of another name (the stage before, say), a file came with another size or content than was written,
                or the mark names files outside the checkpoint.
        """
        found = self.complete()
        if not found:
            return None
        name = max(found)
        outside = [file for file in found[name] if not inside(file)]
        if outside or not _STEP.fullmatch(name):
            raise ValueError(f"train.mirror: {self.url}/{name}{_MARK} names files outside the run ({', '.join([*outside, name][:3])}) and "
                             "was not written by voxkit; nothing is fetched. Look at who may write to the mirror")
        partial = checkpoints / f".tmp-{name}"
        shutil.rmtree(partial, ignore_errors=True)
        for file, size in sorted(found[name].items(), key=lambda item: item[0] != "meta.json"):
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(f"{self.root}/{name}/{file}", str(partial / file))
            if (partial / file).stat().st_size != size:
                raise ValueError(f"{self.url}/{name}/{file} came with {(partial / file).stat().st_size} of {size} bytes; try again, or "
                                 f"delete {name}{_MARK} there to fall back on an older checkpoint")
            if file == "meta.json":
                whose = json.loads((partial / file).read_text(encoding="utf-8")).get("name", run)
                if run and whose != run:
                    raise ValueError(f"train.mirror {self.url} holds the run {whose!r}, and this one is {run!r}: every run needs a mirror "
                                     f"of its own; train.mirror='{self.url}/${{name}}' puts in its name")
        if wrong := damage(partial, training=True, content=True):
            raise ValueError(f"{self.url}/{name} is damaged: {wrong}; delete {name}{_MARK} there to fall back on an older checkpoint")
        partial.rename(checkpoints / name)
        for file in ("metrics.json", "results.csv", "budget.json"):
            if self.fs.exists(f"{self.root}/run/{file}") and not (self.run_dir / file).exists():
                self.fs.get_file(f"{self.root}/run/{file}", str(self.run_dir / file))
        return checkpoints / name

    def _work(self) -> None:
        while True:
            with self._changed:
                self._uploading = ""
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                checkpoint, keep = self._waiting.popleft()
                self._uploading = checkpoint.name
            for attempt in range(1, TRIES + 1):
                try:
                    self._upload(checkpoint, keep)
                    break
                except Exception as error:  # any file system's own
                    if attempt == TRIES:
                        self.failed += 1
                        log.warning("checkpoint %s is not in the mirror %s: %s: %s; training goes on (%d failed so far)",
                                    checkpoint.name, self.url, type(error).__name__, error, self.failed)
                    else:
                        time.sleep(PAUSE * 2 ** (attempt - 1))

    def _upload(self, checkpoint: Path, keep: set[str]) -> None:
        name, mark = checkpoint.name, f"{self.root}/{checkpoint.name}{_MARK}"
        self.fs.invalidate_cache()
        if self.fs.exists(mark):
            self.fs.rm(mark)
        sizes = {}
        for path in sorted(p for p in checkpoint.rglob("*") if p.is_file()):
            file = path.relative_to(checkpoint).as_posix()
            self._put(path, f"{self.root}/{name}/{file}")
            sizes[file] = path.stat().st_size
        for path in (self.run_dir / file for file in _RUN_FILES):
            if path.is_file():
                self._put(path, f"{self.root}/run/{path.name}")
        self.fs.pipe_file(mark, json.dumps({"files": sizes}).encode())
        for old in self.complete():
            if old not in keep:
                self.fs.rm(f"{self.root}/{old}{_MARK}")
                self.fs.rm(f"{self.root}/{old}", recursive=True)

    def _put(self, path: Path, target: str) -> None:
        self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        self.fs.put_file(str(path), target)


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec.core

    scheme = url.split("://")[0] if "://" in url else "file"
    packages = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
    if scheme in packages and not available(packages[scheme]):
        require(packages[scheme], scheme[:2], why=f"the mirror {url}")
    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ValueError(f"train.mirror {url!r}: {error}") from error
