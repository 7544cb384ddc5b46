"""What the benchmarks measure, as JSON lines that `python -m benchmarks.compare` reads: `--json FILE` of each appends its figures there.

A figure is a ratio of two contestants that took turns on one machine ("times", more is better), or memory ("MB", less is better): both
mean the same tomorrow and elsewhere, which seconds do not.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

UNITS = {"times": True, "MB": False}  # unit → whether more is better


@dataclass(frozen=True)
class Figure:
    """benchmark, what: its name; value, low, high: the median and the range of the rounds; the rest says where it is from."""

    benchmark: str
    what: str
    unit: str
    value: float
    low: float
    high: float
    rounds: int
    git: str = ""
    date: str = ""
    machine: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What two runs compare by."""
        return self.benchmark, self.what, self.unit


class Figures:
    """The figures of one run of a benchmark.

    Args:
        benchmark: its module's name.
        path: file that they are appended to; None: they go nowhere.
    """

    def __init__(self, benchmark: str, path: str | None) -> None:
        self.benchmark, self.path = benchmark, path

    @staticmethod
    def add_argument(parser: argparse.ArgumentParser) -> None:
        """Register --json."""
        parser.add_argument("--json", metavar="FILE", help="append the figures here, one JSON object a line, for benchmarks.compare")

    def add(self, what: str, values: Sequence[float], unit: str = "times") -> None:
        """Append the median of the rounds' values, with their range."""
        if unit not in UNITS:
            raise ValueError(f"unit {unit!r} is none of {', '.join(UNITS)}")
        if not self.path:
            return
        from voxkit.train.run_dir import git_hash

        figure = Figure(self.benchmark, what, unit, statistics.median(values), min(values), max(values), len(values), git_hash(),
                        time.strftime("%Y-%m-%d %H:%M:%S"), f"{platform.machine()}, {platform.python_version()}")
        with Path(self.path).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(figure), ensure_ascii=False) + "\n")


def read_figures(path: str | Path) -> dict[tuple[str, str, str], Figure]:
    """The figures of a file by what they compare by; of several of one key the last.

    Raises:
        ValueError: no such file, a line that is no figure, or none at all.
    """
    from voxkit.files import read_lines

    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; benchmarks write one with --json")
    found: dict[tuple[str, str, str], Figure] = {}
    for number, line in enumerate(read_lines(path), 1):
        try:
            figure = Figure(**json.loads(line))
            positive = figure.value > 0
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: no figure of a benchmark ({error})") from error
        if figure.unit not in UNITS or not positive:
            raise ValueError(f"{path}, line {number}: no figure of a benchmark (unit {figure.unit!r}, value {figure.value})")
        found[figure.key] = figure
    if not found:
        raise ValueError(f"{path}: it holds no figure")
    return found
