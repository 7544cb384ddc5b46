"""Where preparation runs: this machine's cores, or a Dask cluster by its address, behind concurrent.futures' one interface."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

from voxkit.optional import require


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_executor(jobs: int | None = None, dask: str | None = None, *, threads: bool = False) -> Iterator[Executor]:
    """An executor, closed at the end of the `with`.

    Args:
        jobs: how many at once; None takes every core.
        dask: address of a Dask scheduler (tcp://host:8786); its workers must see the same files under the same paths.
        threads: threads instead of processes, for work that leaves Python's lock alone, such as decoding audio.

    Raises:
        ValueError: a number of jobs below one, or no scheduler answers at the address.
        MissingPackage: a Dask address, and no `distributed` installed.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs {jobs}: give one or more, or leave it out for all {cores()} cores")
    if dask:
        distributed = require("distributed", "dask", why="a Dask cluster")
        try:
            client = distributed.Client(dask, timeout="20s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"no Dask scheduler answers at {dask} ({error}); start one with `dask scheduler`") from error
        with client, client.get_executor() as executor:
            yield executor
    elif threads or jobs == 1:
        with ThreadPoolExecutor(jobs or cores()) as executor:
            yield executor
    else:
        # Spawned, not forked: whoever calls may have torch's threads running.
        with ProcessPoolExecutor(jobs or cores(), mp_context=multiprocessing.get_context("spawn")) as executor:
            yield executor
