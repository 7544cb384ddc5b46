"""Audio out of a generator, as a job: prompt, seconds, sampling, buffers; the state in and out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from voxkit.audio.io import read_audio
from voxkit.infer.audio_generator import AudioGenerator, GeneratorState
from voxkit.infer.code_sampling import SamplingOptions


@dataclass(frozen=True)
class GenerateJob:
    """Attributes:
    checkpoint: of system lact_audio.
    seconds: of audio to make.
    prompt: file or open binary file to go on from; None: from nothing. prompt_seconds: its last so many seconds; 0: all.
    seeds: one for each sequence made beside each other.
    buffer: seconds of each buffer; 0: everything at once.
    state: file of a state to take up, in place of prompt and seeds.
    keep: the state will be kept: what the last frames owe comes when it is gone on with; False, without buffers: it comes at the end.
    sampling: how codes are drawn.
    """

    checkpoint: str
    seconds: float = 10.0
    prompt: str | BinaryIO | None = None
    prompt_seconds: float = 0.0
    seeds: tuple[int, ...] = (0,)
    buffer: float = 0.0
    state: str | None = None
    keep: bool = False
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    device: str = "cpu"


@dataclass
class Generation:
    """A generation in progress: iterate over it for buffers [B, samples].

    Attributes:
        rate: Hz.
        state: after the last buffer given.
        first: seconds until the first buffer, the prompt apart; spent: until the last one; made: seconds of audio so far.
    """

    generator: AudioGenerator
    job: GenerateJob
    state: GeneratorState
    rate: int
    first: float = 0.0
    spent: float = 0.0
    made: float = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        codec = self.generator.tokenizer.codec
        frames = max(1, round(self.job.seconds * codec.frame_rate))
        began = time.perf_counter()
        if self.generator.codec is None:
            if self.job.buffer:
                raise ValueError("--stream: a codec that is not causal does not stream, and this generator's is none; leave --stream out")
            pieces = iter([self.generator.audio(self.state, frames, self.job.sampling)])
        else:
            buffer = max(1, round(self.job.buffer * codec.frame_rate)) if self.job.buffer else frames
            final = not self.job.keep and not self.job.buffer
            pieces = self.generator.stream(self.state, frames, buffer, self.job.sampling, final=final)
        for audio, self.state in pieces:
            self.spent = time.perf_counter() - began
            self.first = self.first or self.spent
            self.made += audio.shape[1] / self.rate
            yield audio

    def save(self, path: str) -> None:
        """Keep the state; a job with `state` goes on from it."""
        self.state.save(path, self.generator.fingerprint)


def generate(job: GenerateJob) -> Generation:
    """Load the generator and listen to the prompt.

    Raises:
        ValueError: another system, a state of another generator, a prompt that is no audio, no seconds.
    """
    if not 0 < job.seconds < math.inf:
        raise ValueError(f"--seconds {job.seconds:g}: give a number above 0")
    generator = AudioGenerator.load(job.checkpoint, job.device)
    rate = generator.tokenizer.codec.sample_rate
    if job.state is not None:
        if job.prompt is not None:
            raise ValueError("a state goes on where it stands: leave the prompt out")
        return Generation(generator, job, GeneratorState.load(job.state, generator.fingerprint, job.device), rate)
    prompt = None
    if job.prompt is not None:
        source = Path(job.prompt) if isinstance(job.prompt, str) else job.prompt
        audio, _ = read_audio(source, rate=rate)
        if job.prompt_seconds:
            audio = audio[-round(job.prompt_seconds * rate):]
        prompt = generator.tokenizer.encode(audio, rate).to(torch.long)
    return Generation(generator, job, generator.start(prompt, job.seeds), rate)
