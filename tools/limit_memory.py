#!/usr/bin/env python3
"""Run a command that may take so much memory and no more: `python tools/limit_memory.py MB COMMAND ...`.

What the command and all processes that it starts hold in memory together (RSS) is looked at ten times a second. Past the limit they are
killed and the status is 75; else it is the command's. The most that was seen is printed at the end. Address space (`ulimit -v`) says
little: torch maps gigabytes that it never touches.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

EXCEEDED = 75


def resident(process: psutil.Process) -> float:
    """MB of a process and its descendants."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for one in family:
        try:
            total += one.memory_info().rss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total / 1e6


def run(limit: float, command: list[str]) -> tuple[int, float]:
    """Run → the status, and MB at most."""
    child = subprocess.Popen(command, start_new_session=True)
    watched, most = psutil.Process(child.pid), 0.0
    try:
        while child.poll() is None:
            most = max(most, resident(watched))
            if most > limit:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return EXCEEDED, most
            time.sleep(0.1)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    return child.returncode, most


def main(argv: list[str]) -> int:
    """Run, and say what it took."""
    try:
        limit, command = float(argv[0]), argv[1:]
    except (IndexError, ValueError):
        limit, command = 0.0, []
    if not (limit > 0 and command):
        print(__doc__, file=sys.stderr)
        return 2
    status, most = run(limit, command)
    print(f"{most:.0f} MB at most, {limit:g} allowed" + (": killed" if status == EXCEEDED else ""), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
