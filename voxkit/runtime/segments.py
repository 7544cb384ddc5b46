"""Long recordings: where speech is, in pieces that a model takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxkit.rate import RATE
from voxkit.runtime.vad import FRAME


@dataclass(frozen=True)
class SegmentOptions:
    """Attributes:
    threshold: probability from which a frame is speech; speech goes on until it falls below `until`.
    until: see threshold.
    silence: seconds of silence that end a segment. pad: seconds of it that stay on either side.
    shortest: seconds of speech that are kept. longest: seconds of a segment; longer speech is cut where it is least likely speech.
    """

    threshold: float = 0.5
    until: float = 0.35
    silence: float = 0.5
    pad: float = 0.2
    shortest: float = 0.1
    longest: float = 25.0

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = []
        if not 0 < self.until <= self.threshold < 1:
            found.append(f"threshold {self.threshold} and until {self.until}: 0 < until <= threshold < 1")
        found += [f"{name}: {getattr(self, name)} is below 0" for name in ("silence", "pad", "shortest") if not getattr(self, name) >= 0]
        return found + ([] if self.longest >= 1 else [f"longest: {self.longest} s; at least 1"])


def speech_segments(probabilities: np.ndarray, samples: int, options: SegmentOptions = SegmentOptions()) -> list[tuple[int, int]]:
    """Where speech is.

    Args:
        probabilities: [N], one for every 512 samples; samples: of the recording.

    Returns:
        (first sample, sample after the last) in order, none overlapping, none longer than `longest`.

    Raises:
        ValueError: options that cannot be.
    """
    if problems := options.problems():
        raise ValueError("; ".join(problems))
    frames = _runs(probabilities, options)
    longest = max(1, int(options.longest * RATE / FRAME))
    pad = int(options.pad * RATE)
    out: list[tuple[int, int]] = []
    for i, (begin, end) in enumerate(frames):
        left = frames[i - 1][1] * FRAME if i else 0
        right = frames[i + 1][0] * FRAME if i + 1 < len(frames) else samples
        pieces = _cut(probabilities, begin, end, longest)
        for first, last in pieces:
            start = max(first * FRAME - pad, (left + first * FRAME) // 2 if i else 0) if first == begin else first * FRAME
            stop = min(last * FRAME + pad, (right + last * FRAME) // 2 if i + 1 < len(frames) else samples) if last == end else last * FRAME
            if min(stop, samples) > start:
                out.append((start, min(stop, samples)))
    return out


def _runs(probabilities: np.ndarray, options: SegmentOptions) -> list[tuple[int, int]]:
    """(first, after the last) frame of every stretch of speech."""
    patience, least = options.silence * RATE / FRAME, options.shortest * RATE / FRAME
    runs: list[tuple[int, int]] = []
    begin, last = -1, -1
    for i, p in enumerate([*probabilities.tolist(), -1.0]):
        if p >= (options.threshold if begin < 0 else options.until):
            begin, last = (i, i) if begin < 0 else (begin, i)
        elif begin >= 0 and (i - last > patience or p < 0):
            runs.append((begin, last + 1))
            begin = -1
    return [(first, end) for first, end in runs if end - first >= least]


def _cut(probabilities: np.ndarray, begin: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Pieces of at most `longest` frames, cut in their second half where speech is least likely."""
    out = []
    while end - begin > longest:
        half = max(1, longest // 2)
        at = begin + half + int(np.argmin(probabilities[begin + half:begin + longest])) + 1
        out.append((begin, at))
        begin = at
    return [*out, (begin, end)]
