"""Where an utterance begins and ends in audio that does not stop: silence behind speech, or a length that is enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxkit.rate import RATE
from voxkit.runtime.vad import FRAME, Vad

_PREROLL = 0.5  # seconds before speech was noticed that belong to it


@dataclass(frozen=True)
class Endpointing:
    """Attributes:
    silence: seconds of it behind speech that end an utterance.
    longest: seconds after which it ends at the next frame that is no sure speech, and two seconds later in any case.
    threshold: probability from which a frame is speech; speech goes on until it falls below `until`.
    """

    silence: float = 0.5
    longest: float = 20.0
    threshold: float = 0.5
    until: float = 0.35

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = [] if 0.03 <= self.silence < float("inf") else [f"silence: {self.silence} s; at least 0.03"]
        found += [] if 1 <= self.longest < float("inf") else [f"longest: {self.longest} s; at least 1"]
        if not 0 < self.until <= self.threshold < 1:
            found.append(f"threshold {self.threshold} and until {self.until}: 0 < until <= threshold < 1")
        return found


class Endpointer:
    """A stream of samples → pieces of utterances.

    Args:
        vad: silero's network.
        options: see Endpointing.

    Raises:
        ValueError: options that cannot be.
    """

    def __init__(self, vad: Vad, options: Endpointing) -> None:
        if problems := options.problems():
            raise ValueError("; ".join(problems))
        self.options = options
        self._stream = vad.stream()
        self._waiting = np.zeros(0, np.float32)  # samples that have no probability yet
        self._before = np.zeros(0, np.float32)  # those before speech
        self.position = 0  # samples with a probability
        self.start: int | None = None  # of the utterance; None: there is none
        self.speech = 0  # sample after its last speech

    def accept(self, audio: np.ndarray) -> list[tuple[int, np.ndarray, bool]]:
        """The next samples at 16 kHz → (first sample, samples, whether the utterance ends with them) of utterances, in order."""
        out: list[tuple[int, np.ndarray, bool]] = []
        self._waiting = np.concatenate([self._waiting, audio])
        for p in self._stream.accept(audio).tolist():
            frame, self._waiting = self._waiting[:FRAME], self._waiting[FRAME:]
            out += self._frame(frame, p)
        return _joined(out)

    def finish(self) -> list[tuple[int, np.ndarray, bool]]:
        """The stream ends, or somebody says that the utterance does."""
        rest, self._waiting = self._waiting, np.zeros(0, np.float32)
        self._stream.waiting = self._waiting  # they belong to no frame of what follows
        self.position += len(rest)
        if self.start is None:
            self._before = np.zeros(0, np.float32)
            return []
        self.start = None
        return [(self.position - len(rest), rest, True)]

    def _frame(self, frame: np.ndarray, p: float) -> list[tuple[int, np.ndarray, bool]]:
        options, begin = self.options, self.position
        self.position += FRAME
        if self.start is None:
            if p < options.threshold:
                self._before = np.concatenate([self._before, frame])[-int(_PREROLL * RATE):]
                return []
            self.start, self.speech = begin - len(self._before), self.position
            frame, self._before, begin = np.concatenate([self._before, frame]), np.zeros(0, np.float32), self.start
            return [(begin, frame, False)]
        if p >= options.until:
            self.speech = self.position
        length = (self.position - self.start) / RATE
        ends = self.position - self.speech >= options.silence * RATE or (
            length >= options.longest and (p < options.threshold or length >= options.longest + 2))
        if ends:
            self.start = None
        return [(begin, frame, ends)]


def _joined(pieces: list[tuple[int, np.ndarray, bool]]) -> list[tuple[int, np.ndarray, bool]]:
    """Pieces of one utterance that follow each other become one."""
    out: list[tuple[int, list[np.ndarray], bool]] = []
    for start, audio, ends in pieces:
        if out and not out[-1][2]:
            out[-1] = (out[-1][0], [*out[-1][1], audio], ends)
        else:
            out.append((start, [audio], ends))
    return [(start, np.concatenate(parts), ends) for start, parts, ends in out]
