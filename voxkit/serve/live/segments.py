"""Streams over a model of whole utterances (an offline artifact, a checkpoint, Whisper): voice activity cuts them, each is recognized
whole, and what it holds so far is recognized anew for interim results where that does not hold up others."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.checks import check_samples
from voxkit.runtime.endpoint import Endpointer
from voxkit.runtime.resample import ResampleStream
from voxkit.runtime.vad import Vad
from voxkit.serve.backend import Asked, Backend
from voxkit.serve.batcher import Batcher
from voxkit.serve.errors import RequestError
from voxkit.serve.inputs import Input
from voxkit.serve.live.errors import FAILED, INVALID, TOO_LARGE, StreamError, failed
from voxkit.serve.live.host import Host, HostLimits, log
from voxkit.serve.live.options import Change, StreamOptions
from voxkit.serve.live.silence import Silence
from voxkit.serve.live.stream import Configured, End, Ended, Event, Finalize, Heard, Started, Stream, Work
from voxkit.serve.metrics import Metrics

_SHORTEST = 0.1  # seconds; less holds no word
_INTERIM = 0.6  # seconds of new audio between two interim results, at the least


@dataclass
class _Whole:
    """An utterance, or what is there of it; recognized with `phrases`."""

    phrases: tuple[str, ...]
    start: float
    audio: np.ndarray
    final: bool
    pause: bool
    asked: bool
    arrived: float


@dataclass
class _Cut:
    """A stream inside.

    Attributes:
        parts: samples of the utterance, from sample `start` on, `length` of them; told: so many when the last interim result was asked for;
            phrases: as they were when it began.
        jobs: what is to be said or recognized, in order; worker: who does it.
    """

    options: StreamOptions
    resampler: ResampleStream
    endpointer: Endpointer | None
    silence: Silence = field(default_factory=Silence)
    position: int = 0
    start: int = 0
    parts: list[np.ndarray] = field(default_factory=list)
    length: int = 0
    told: int = 0
    phrases: tuple[str, ...] = ()
    jobs: deque[_Whole | Event | StreamError] = field(default_factory=deque)
    worker: asyncio.Task | None = None


class SegmentHost(Host):
    """See Host.

    Args:
        backend: hears whole utterances. batcher: in front of it.
    """

    streaming = False

    def __init__(self, backend: Backend, batcher: Batcher, limits: HostLimits, metrics: Metrics) -> None:
        longest = min(limits.endpointing.longest, max(1.0, backend.longest - 2.5))  # an utterance may go on 2 s beyond where it should end
        super().__init__(replace(limits, endpointing=replace(limits.endpointing, longest=longest),
                                 utterance=min(limits.utterance, backend.longest)), metrics)
        self.backend, self.batcher = backend, batcher
        self._vad: Vad | None = None

    def prepare(self, options: StreamOptions) -> _Cut:
        """Resampling and voice activity."""
        if options.phrases:
            self.backend.check_phrases(options.phrases, options.boost)
        endpointer = None
        if options.silence is not None:
            self._vad = self._vad or Vad()
            endpointer = Endpointer(self._vad, replace(self.limits.endpointing, silence=options.silence))
        return _Cut(options, ResampleStream(options.rate), endpointer)

    def work(self, streams: Sequence[tuple[_Cut, Work]]) -> list[tuple[list[Any], StreamError | None]]:
        """Cut a slice of each."""
        out: list[tuple[list[Any], StreamError | None]] = []
        for cut, work in streams:
            found: list[Any] = []
            error = None
            try:
                samples = check_samples(cut.options.samples(work.data), f"samples after {cut.position / RATE:.2f} s")
                if cut.endpointer is None and cut.length / RATE + len(samples) / cut.options.rate > self.limits.utterance:
                    found += self._finish(cut, work, asked=False, ended=True)
                    error = StreamError(TOO_LARGE, f"an utterance above {self.limits.utterance:g} s; send Finalize "
                                                   "in time, or turn endpointing on", 0.0)
                else:
                    self._take(cut, cut.resampler.accept(samples), work, found)
                    self._obey(cut, work, found)
            except ValueError as refused:
                error = StreamError(INVALID, str(refused))
            out.append((found, error))
        return out

    @property
    def overloaded(self) -> bool:
        """Whether utterances wait too long for the model."""
        return super().overloaded or self.batcher.oldest > self.limits.wait

    def deliver(self, stream: Stream, found: Sequence[Any], error: StreamError | None) -> None:
        """Put it in line behind what is being recognized."""
        cut: _Cut = stream.inside
        cut.jobs.extend(found)
        if error is not None:
            cut.jobs.append(error)
        if cut.jobs and (cut.worker is None or cut.worker.done()):
            cut.worker = asyncio.create_task(self._say(stream))

    def forget(self, stream: Stream) -> None:
        """Its utterances are recognized no longer."""
        super().forget(stream)
        worker = stream.inside.worker if stream.inside is not None else None
        if worker is not None and not worker.done() and worker is not asyncio.current_task():
            worker.cancel()

    def _take(self, cut: _Cut, audio: np.ndarray, work: Work, found: list[Any]) -> None:
        begin, cut.position = cut.position, cut.position + len(audio)
        pieces = cut.endpointer.accept(audio) if cut.endpointer is not None else [(begin, audio, False)] if len(audio) else []
        for piece in pieces:
            self._piece(cut, piece, work, found)
        if cut.endpointer is not None and not cut.parts:
            found += cut.silence.told(cut.endpointer.position)

    def _piece(self, cut: _Cut, piece: tuple[int, np.ndarray, bool], work: Work, found: list[Any], asked: bool = False,
               ended: bool = False) -> None:
        start, audio, ends = piece
        if not cut.parts:
            cut.start, cut.told, cut.phrases = start, 0, cut.options.phrases
            if cut.endpointer is not None:
                found.append(Started(start / RATE))
        cut.parts.append(audio)
        cut.length += len(audio)
        if ends:
            pause = asked or (not ended and cut.length / RATE < self.limits.endpointing.longest)
            found.append(self._whole(cut, work, True, pause, asked))
            cut.silence.passed((cut.start + cut.length) / RATE)
            cut.parts, cut.length = [], 0
        elif cut.options.interim and cut.length - cut.told >= _INTERIM * RATE:
            cut.told = cut.length
            found.append(self._whole(cut, work, False, False, False))

    def _whole(self, cut: _Cut, work: Work, final: bool, pause: bool, asked: bool) -> _Whole:
        audio = np.concatenate([*cut.parts, np.zeros(0, np.float32)])
        return _Whole(cut.phrases, cut.start / RATE, audio, final, pause, asked, work.arrived)

    def _finish(self, cut: _Cut, work: Work, asked: bool, ended: bool) -> list[Any]:
        """The utterance ends here, for whatever reason."""
        found: list[Any] = []
        self._take(cut, cut.resampler.accept(np.zeros(0, np.float32), final=True), work, found)
        cut.resampler = ResampleStream(cut.options.rate)
        if cut.endpointer is not None:
            for piece in cut.endpointer.finish():
                self._piece(cut, piece, work, found, asked, ended)
        elif cut.parts:
            self._piece(cut, (cut.start + cut.length, np.zeros(0, np.float32), True), work, found, asked, ended)
        if asked and not any(isinstance(one, _Whole) and one.asked for one in found):
            end = cut.position / RATE
            found.append(Heard(cut.silence.end, end, Hypothesis(""), True, True, True, time.monotonic() - work.arrived))
            cut.silence.passed(end)
        return found

    def _obey(self, cut: _Cut, work: Work, found: list[Any]) -> None:
        control = work.control
        if isinstance(control, Finalize):
            found += self._finish(cut, work, asked=True, ended=False)
        elif isinstance(control, End):
            found += [*self._finish(cut, work, asked=False, ended=True), Ended()]
        elif isinstance(control, Change):
            found.append(self._change(cut, control))

    def _change(self, cut: _Cut, change: Change) -> Configured:
        if change.refused is not None:
            return Configured(change, change.refused)
        options = cut.options
        phrases = options.phrases if change.phrases is None else change.phrases
        try:
            if change.phrases:
                self.backend.check_phrases(phrases, options.boost)
        except ValueError as error:
            return Configured(change, str(error))
        if change.silence is not None and cut.endpointer is not None:
            cut.endpointer.options = replace(cut.endpointer.options, silence=change.silence)
        cut.options = replace(options, phrases=phrases, interim=options.interim if change.interim is None else change.interim)
        return Configured(change)

    async def _say(self, stream: Stream) -> None:
        """What is in line, in order."""
        cut: _Cut = stream.inside
        while cut.jobs:
            job = cut.jobs.popleft()
            if isinstance(job, StreamError):
                stream.fail(job)
            elif not isinstance(job, _Whole):
                super().deliver(stream, [job], None)
            elif job.final or not (self.batcher.waiting or any(isinstance(later, _Whole) for later in cut.jobs)):
                try:
                    super().deliver(stream, [await self._recognize(cut, job)], None)
                except RequestError as error:
                    stream.fail(StreamError(FAILED if error.status >= 500 else INVALID, error.message, 1.0))
                    return
                except Exception:  # else the client would wait for ever
                    log.exception("a stream failed")
                    stream.fail(failed())
                    return

    async def _recognize(self, cut: _Cut, job: _Whole) -> Heard:
        seconds = len(job.audio) / RATE
        hypothesis = Hypothesis("", audio_duration=seconds)
        if seconds >= _SHORTEST:
            asked = Asked("audio", job.final, job.phrases, cut.options.boost)
            hypothesis = await self.batcher.submit(asked, Input("audio", job.audio, seconds), seconds, always=True)
        words = [replace(word, start=word.start + job.start, end=word.end + job.start) for word in hypothesis.words] if job.final else []
        return Heard(job.start, job.start + seconds, replace(hypothesis, words=words), job.final, job.pause, job.asked,
                     time.monotonic() - job.arrived)
