"""What a run may cost: hours over all resumes, and what they come to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from voxkit.files import write_text


class Budget:
    """A clock that is kept in a file, so that a killed run does not forget what it used since its last checkpoint.

    Args:
        path: budget.json of the run.
        max_hours: 0 = no limit.
        price_per_hour: in any currency; 0 = no price is shown.
        clock: seconds, for tests.
    """

    def __init__(self, path: Path, max_hours: float = 0.0, price_per_hour: float = 0.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.max_hours, self.price_per_hour = path, max_hours, price_per_hour
        self._clock = clock
        self._before = 0.0
        try:
            self._before = float(json.loads(path.read_text(encoding="utf-8"))["hours"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._start = clock()

    @property
    def hours(self) -> float:
        """Used so far, earlier runs included."""
        return self._before + (self._clock() - self._start) / 3600

    @property
    def cost(self) -> float:
        """In the currency of the price."""
        return self.hours * self.price_per_hour

    @property
    def spent(self) -> bool:
        """Whether the hours are used up."""
        return bool(self.max_hours) and self.hours >= self.max_hours

    def at_least(self, hours: float) -> None:
        """Take over hours that a checkpoint from elsewhere (a mirror) knows of."""
        self._before += max(0.0, hours - self.hours)

    def save(self) -> None:
        """Write the file."""
        write_text(self.path, json.dumps({"hours": self.hours, "cost": self.cost}) + "\n")

    def __str__(self) -> str:
        text = f"{self.hours:.2f} h" + (f" of {self.max_hours:g} h" if self.max_hours else "")
        return text + (f" (cost {self.cost:.2f})" if self.price_per_hour else "")
