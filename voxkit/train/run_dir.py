"""The run directory: exp/<date_time>_<name>/ with config.yaml, git hash and the installed packages."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from voxkit import config as configuration
from voxkit import files
from voxkit.checkpoint.runs import STAMP

_AS_YOU_GO = ("train.max_hours", "train.price_per_hour")  # what continuing a run is for


def new_run_dir(root: str | os.PathLike, name: str, config: Any = None) -> Path:
    """Make `root/<date_time>_<name>/` and put into it what says where the run came from.

    Args:
        config: goes into config.yaml, where given.
    """
    stamp = time.strftime(STAMP)
    for attempt in range(100):
        path = Path(root) / f"{stamp}{f'-{attempt}' if attempt else ''}_{name}"
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    describe_run(path, config)
    return path


def describe_run(path: Path, config: Any = None) -> None:
    """Write config.yaml, git.txt and packages.txt (what `pip freeze` says) into a run directory."""
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        configuration.save(config, path / "config.yaml")
    files.write_text(path / "git.txt", git_hash() + "\n")
    files.write_text(path / "packages.txt", "\n".join(installed_packages()) + "\n")


def changed_options(path: Path, config: Any) -> list[str]:
    """`option=now (was before)` for every option that a configuration and the config.yaml of a run both have and differ in; a run without
    one has none."""
    if not (path / "config.yaml").is_file():
        return []
    nodes = (configuration.load_plain(path / "config.yaml"), OmegaConf.create(config))
    before, now = (dict(_leaves(OmegaConf.to_container(node, resolve=True))) for node in nodes)
    return [f"{name}={now[name]} (was {before[name]})" for name in before
            if name in now and now[name] != before[name] and name not in _AS_YOU_GO]


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node


def git_hash() -> str:
    """Commit of the checkout that voxkit runs from, with `-dirty` where files differ; `unknown` without git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=here, capture_output=True, text=True,
                                 timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")


def installed_packages() -> list[str]:
    """`name==version` of every installed distribution, sorted."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return sorted(found, key=str.lower)
