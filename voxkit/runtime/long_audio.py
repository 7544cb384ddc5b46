"""Recordings longer than a model takes at once: cut in silence, recognized in batches, put together on the recording's own clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.segments import SegmentOptions, speech_segments
from voxkit.runtime.vad import Vad

_BATCH_SECONDS = 120.0  # of padded audio that goes through the encoder together


def recognize_long(wave: np.ndarray, recognize: Callable[[Sequence[np.ndarray]], list[Hypothesis]], longest: float, vad: Vad,
                   options: SegmentOptions | None = None) -> Hypothesis:
    """One recording.

    Args:
        wave: [S] float32 at 16 kHz.
        recognize: a batch of waveforms → their hypotheses, in order.
        longest: seconds that it takes of each.
        options: how the recording is cut; None: as usual.
    """
    options = options or SegmentOptions()
    own = replace(options, longest=max(1.0, min(options.longest, longest) - 1.0))
    limit = int(longest * RATE)
    segments = [(start, min(stop, start + limit)) for start, stop in speech_segments(vad.probabilities(wave), len(wave), own)]
    found: dict[int, Hypothesis] = {}
    for batch in _batches(segments):
        found.update(zip(batch, recognize([wave[slice(*segments[i])] for i in batch])))
    whole = Hypothesis("", audio_duration=len(wave) / RATE)
    for i, (start, _) in enumerate(segments):
        part = found[i]
        whole.text = f"{whole.text} {part.text}".strip()
        whole.words += [replace(word, start=word.start + start / RATE, end=word.end + start / RATE) for word in part.words]
        whole.tokens += part.tokens
        whole.token_confidences += part.token_confidences
        whole.score += part.score
    return whole


def _batches(segments: list[tuple[int, int]]) -> list[list[int]]:
    """Segments of like length together, so many that their padded length stays bounded."""
    order = sorted(range(len(segments)), key=lambda i: segments[i][1] - segments[i][0])
    out: list[list[int]] = []
    for i in order:
        longest = segments[i][1] - segments[i][0]
        if out and (len(out[-1]) + 1) * longest <= _BATCH_SECONDS * RATE:
            out[-1].append(i)
        else:
            out.append([i])
    return out
