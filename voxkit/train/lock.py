"""One training at a time in a run directory."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger("voxkit.train")


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Inside the `with` no other process trains in the run directory. The system lets go of the lock of a process that is killed.

    Raises:
        ValueError: another one does; the message says which.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (run_dir / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(f"{run_dir} is being trained already ({file.read().strip() or 'by another process'}); wait until that ends, "
                             "or begin another run (--fresh, or --name)") from error
        except OSError as error:  # a network file system without locks
            log.warning("%s cannot be locked (%s): take care that the same training is not started twice", run_dir, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        yield
