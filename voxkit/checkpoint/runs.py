"""Finding runs by path: `exp/stage1` means the newest run `exp/<date_time>_stage1`."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

log = logging.getLogger("voxkit.train")

STAMP = "%Y%m%d_%H%M%S"
_STAMP = re.compile(r"(\d{8}_\d{6})(?:-(\d+))?_(.+)")


def latest_run(root: str | os.PathLike, name: str) -> Path | None:
    """The newest run of that name under `root`, or None: what a repeated command continues.

    Runs are in the order of their stamps. A stamp that lies in the future came from a wrong clock: where there is one, it is said, and the
    runs are in the order in which something was last written into them.
    """
    found = [(match, p) for p in Path(root).glob(f"*_{name}") if p.is_dir() and (match := _STAMP.fullmatch(p.name))]
    runs = [(match[1], int(match[2] or 0), p) for match, p in found if match[3] == name]
    if not runs:
        return None
    now = time.strftime(STAMP)
    ahead = [p for stamp, _, p in runs if stamp > now]
    if not ahead:
        return max(runs)[2]
    chosen = max(runs, key=lambda run: (_last_written(run[2]), run[2] not in ahead, run))[2]
    if len(runs) > 1:
        log.warning("%s: the date in the name lies in the future; of the %d runs named %s, %s is the one that was written to last. Rename "
                    "what a wrong clock has named", ", ".join(map(str, ahead)), len(runs), name, chosen)
    return chosen


def _last_written(run: Path) -> float:
    """Seconds since 1970; 0 where nothing in the run was written before now."""
    times = [p.stat().st_mtime for p in (run, *run.glob("*"), *run.glob("checkpoints/*/meta.json"))]
    return max((t for t in times if t <= time.time()), default=0.0)


def find_run_dir(path: str | os.PathLike) -> Path:
    """The path itself where it is there, else for `exp/stage1` the newest run of that name.

    Raises:
        ValueError: neither; the message says what is in the folder.
    """
    path = Path(path)
    run = path if path.exists() else latest_run(path.parent, path.name)
    if run is None:
        there = ", ".join(sorted(p.name for p in path.parent.iterdir())) if path.parent.is_dir() else "no such folder"
        raise ValueError(f"no checkpoint and no run {path}; in {path.parent}: {there or 'nothing'}")
    return run


def find_in_run(path: str | os.PathLike) -> Path:
    """A file's path; where a folder in it is not there, as in `exp/stage1/decode/test.jsonl`, that in the newest run of that name."""
    path = Path(path)
    for folder in path.parents:
        if not path.exists() and folder.name and folder.parent.is_dir() and not folder.exists():
            run = latest_run(folder.parent, folder.name)
            return run / path.relative_to(folder) if run else path
    return path
