"""How far the finals of a stream go: long silence is told too, so that a client can let go of its audio."""

from __future__ import annotations

from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.serve.live.stream import Heard

EVERY = 5.0  # seconds of silence of which a final is sent
_KEPT = 0.5  # seconds of it that may belong to the next utterance (the endpointer's)


class Silence:
    """The end of the last final, in seconds of the stream."""

    def __init__(self) -> None:
        self.end = 0.0

    def passed(self, end: float) -> None:
        """A final goes to there."""
        self.end = max(self.end, end)

    def told(self, position: int) -> list[Heard]:
        """There was nothing but silence until this sample at 16 kHz → an empty final, where it is time for one."""
        sure = position / RATE - _KEPT
        if sure - self.end < EVERY:
            return []
        begin, self.end = self.end, sure
        return [Heard(begin, sure, Hypothesis(""), True)]
