"""What generating costs, and how it grows: time to first audio, seconds per second of audio, memory of the state, out to minutes."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from voxkit import files
from voxkit.infer.audio_generator import AudioGenerator
from voxkit.infer.code_sampling import SamplingOptions


@dataclass(frozen=True)
class ProfileJob:
    """Attributes:
    checkpoints: of generators, each profiled by the same protocol.
    seconds: marks at which the figures are taken, from one generation as long as the last.
    buffer: seconds of each buffer.
    out: JSON; empty: none.
    """

    checkpoints: tuple[str, ...]
    seconds: tuple[float, ...] = (10.0, 60.0, 300.0)
    buffer: float = 0.2
    out: str = ""
    device: str = "cpu"


@dataclass(frozen=True)
class Mark:
    """At one mark. Attributes: seconds: of audio made; rtf: seconds of computing by second of audio since the mark before; state_bytes."""

    seconds: float
    rtf: float
    state_bytes: int


@dataclass(frozen=True)
class Profile:
    """Of one generator. Attributes: first: seconds to the first buffer, a new state included; parameters; marks."""

    checkpoint: str
    backbone: str
    parameters: int
    first: float
    marks: tuple[Mark, ...]

    @property
    def memory_growth(self) -> float:
        """The state's size at the last mark by that at the first, less 1."""
        return self.marks[-1].state_bytes / self.marks[0].state_bytes - 1

    @property
    def time_growth(self) -> float:
        """Seconds per second between the last two marks by those up to the first, less 1."""
        return self.marks[-1].rtf / self.marks[0].rtf - 1


class EfficiencyProfiler:
    """Generates from nothing, with seed 0 at temperature 1, and measures at marks.

    Args:
        seconds: marks, rising; buffer: seconds of each buffer.

    Raises:
        ValueError: marks that do not rise.
    """

    def __init__(self, seconds: tuple[float, ...], buffer: float = 0.2) -> None:
        if not seconds or list(seconds) != sorted(set(seconds)) or seconds[0] <= 0:
            raise ValueError(f"seconds: {list(seconds)}: give marks above 0 that rise")
        self.seconds, self.buffer = seconds, buffer

    def __call__(self, generator: AudioGenerator, name: str = "") -> Profile:
        """Raises:
        ValueError: a codec that does not stream.
        """
        rate, options = generator.tokenizer.codec.frame_rate, SamplingOptions()
        buffer = max(1, round(self.buffer * rate))
        began = time.perf_counter()
        state, first, done, marks = generator.start(), 0.0, 0, []
        for mark in self.seconds:
            frames, since = round(mark * rate) - done, time.perf_counter()
            for buffers in generator.stream(state, frames, buffer, options, final=False):
                first, state = first or time.perf_counter() - began, buffers[1]
            done += frames
            marks.append(Mark(done / rate, (time.perf_counter() - since) / (frames / rate), state.bytes))
        model = generator.model
        return Profile(name, model.config.backbone, sum(p.numel() for p in model.parameters()), first, tuple(marks))


def profile(job: ProfileJob) -> list[Profile]:
    """Every generator of a job, one after the other."""
    profiler = EfficiencyProfiler(job.seconds, job.buffer)
    found = [profiler(AudioGenerator.load(path, job.device), path) for path in job.checkpoints]
    if job.out:
        figures: list[dict[str, Any]] = [{**asdict(one), "memory_growth": one.memory_growth, "time_growth": one.time_growth}
                                         for one in found]
        files.write_json(job.out, {"job": asdict(job), "profiles": figures})
    return found
