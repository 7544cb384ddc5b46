"""What a run writes down: train.log, metrics.json, results.csv, TensorBoard, and progress on the terminal.

metrics.json holds one JSON object a line, appended as the run goes: {"kind": "train" | "validation" | "event", "step", "epoch", ...}.
A kill can tear its last line only, which `read_metrics` leaves out; a resumed run drops the lines after the step it resumes from.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from voxkit.files import write_text

log = logging.getLogger("voxkit.train")
_everything = logging.getLogger("voxkit")  # what data, cache and probe have to say belongs to the run as well


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.json; a torn last line is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a CSV file; columns that it did not have are added."""
    rows: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows.append(dict(row))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for r in rows for name in r)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


class RunLog:
    """The files of a run, and its lines and bar on the terminal; train.log and the terminal get all that voxkit logs meanwhile.

    Args:
        run_dir: where the files go.
        active: False in all processes but the first, where every method does nothing.
    """

    def __init__(self, run_dir: Path, active: bool = True) -> None:
        self.run_dir, self.active = run_dir, active
        self._metrics: TextIO | None = None
        self._bar: Any = None  # rich's Progress
        self._board: Any = None  # TensorBoard's SummaryWriter
        self._handlers: list[logging.Handler] = []
        self._level = _everything.level
        if active:
            run_dir.mkdir(parents=True, exist_ok=True)
            self._open_handlers()

    def start(self, from_step: int = 0, tensorboard: bool = True) -> None:
        """Open metrics.json and TensorBoard; what was written of later steps is dropped, for those are about to be made again."""
        if not self.active:
            return
        path = self.run_dir / "metrics.json"
        if path.is_file():
            kept = [r for r in read_metrics(path) if r.get("step", 0) <= from_step]
            write_text(path, "".join(json.dumps(r) + "\n" for r in kept))
        self._metrics = path.open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.run_dir / "tensorboard"), purge_step=from_step + 1 if from_step else None)

    def record(self, kind: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """One line of metrics.json, and its numbers to TensorBoard."""
        if self._metrics is None:
            return
        self._metrics.write(json.dumps({"kind": kind, "step": step, "epoch": epoch, **values}) + "\n")
        self._metrics.flush()
        if self._board is not None and kind != "event":
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def event(self, step: int, epoch: int, what: str, **values: Any) -> None:
        """Something out of the ordinary: a warning in the log and a line of metrics.json."""
        if self.active:
            log.warning("%s", what)
            self.record("event", step, epoch, {"what": what, **values})

    def info(self, text: str) -> None:
        """A line in the log."""
        if self.active:
            log.info("%s", text)

    def progress(self, step: int, total: int | None, text: str) -> None:
        """Move the bar, on a terminal."""
        if self._bar is None and self.active and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(text, total=total)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, total=total, description=text)

    def result(self, row: Mapping[str, Any]) -> None:
        """The run's row in results.csv."""
        if self.active:
            append_row(self.run_dir / "results.csv", {"date": time.strftime("%Y-%m-%d %H:%M:%S"), **row})

    def close(self) -> None:
        """Flush and let go of the files."""
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()
        if self._metrics is not None:
            self._metrics.close()
        for handler in self._handlers:
            _everything.removeHandler(handler)
            handler.close()
        _everything.setLevel(self._level)
        self._handlers = []

    def _open_handlers(self) -> None:
        lines = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._handlers = [logging.FileHandler(self.run_dir / "train.log", encoding="utf-8"), _Terminal(self)]
        for handler in self._handlers:
            handler.setFormatter(lines)
            _everything.addHandler(handler)
        _everything.setLevel(logging.INFO)


class _Terminal(logging.Handler):
    """Lines above the bar, or plain lines to standard error."""

    def __init__(self, owner: RunLog) -> None:
        super().__init__()
        self.owner = owner

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if self.owner._bar is not None:
            self.owner._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)
