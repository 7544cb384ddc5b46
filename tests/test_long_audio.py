"""Ten minutes of audio in one piece go through within a limit of memory; and the limit is one."""

import os
import subprocess
import sys

import pytest

LIMIT = 2000  # MB, of which importing torch takes a third
EATER = "import time; x = bytearray(300_000_000); time.sleep({})"


def _limited(repository, megabytes, *command, **more):
    return subprocess.run([sys.executable, str(repository / "tools" / "limit_memory.py"), str(megabytes), *command], capture_output=True,
                          text=True, cwd=repository, **more)


@pytest.mark.slow
def test_long_audio_keeps_within_a_limit_of_memory(repository):
    pytest.importorskip("psutil")
    environment = {**os.environ, "VOXKIT_MEMORY_LIMIT": str(LIMIT), "PYTHONPATH": str(repository)}
    pytest_there = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/long_audio"]
    done = _limited(repository, LIMIT, *pytest_there, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-500:]
    assert " passed" in done.stdout and " skipped" not in done.stdout


def test_what_takes_more_is_killed(repository):
    pytest.importorskip("psutil")
    done = _limited(repository, 150, sys.executable, "-c", EATER.format(60))
    assert done.returncode == 75 and "killed" in done.stderr
    shell = f"{sys.executable} -c '{EATER.format(60)}' & wait"  # a child's child too
    assert _limited(repository, 150, "sh", "-c", shell).returncode == 75


@pytest.mark.parametrize("status", [0, 3])
def test_what_takes_less_ends_as_it_ends(repository, status):
    done = _limited(repository, 2000, sys.executable, "-c", f"import sys, time; time.sleep(0.3); sys.exit({status})")
    assert done.returncode == status and "MB at most, 2000 allowed" in done.stderr


@pytest.mark.parametrize("argv", [[], ["many", "true"], ["100"], ["-5", "true"], ["nan", "true"]])
def test_it_says_how_it_is_called(repository, argv):
    done = subprocess.run([sys.executable, str(repository / "tools" / "limit_memory.py"), *argv], capture_output=True, text=True)
    assert done.returncode == 2 and "limit_memory.py MB COMMAND" in done.stderr
