"""Streams over a streaming artifact: the chunks of all that wait go through the encoder together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from voxkit.rate import RATE
from voxkit.runtime.streaming import Session, StreamEvent, StreamingRecognizer
from voxkit.serve.live.errors import INVALID, TOO_LARGE, StreamError, failed
from voxkit.serve.live.host import Host, HostLimits, log
from voxkit.serve.live.options import Change, StreamOptions
from voxkit.serve.live.silence import Silence
from voxkit.serve.live.stream import Configured, End, Ended, Event, Finalize, Heard, Started, Work
from voxkit.serve.metrics import Metrics


@dataclass
class _Live:
    """A stream inside: the runtime's session, and what was told of it."""

    session: Session
    options: StreamOptions
    silence: Silence
    started: int = -1  # first sample of the last utterance that was told of


class StreamingHost(Host):
    """See Host.

    Args:
        recognizer: over a streaming artifact.
    """

    streaming = True

    def __init__(self, recognizer: StreamingRecognizer, limits: HostLimits, metrics: Metrics) -> None:
        super().__init__(limits, metrics)
        self.recognizer = recognizer

    def prepare(self, options: StreamOptions) -> _Live:
        """A session of the runtime."""
        endpointing = None if options.silence is None else replace(self.limits.endpointing, silence=options.silence)
        session = self.recognizer.session(rate=options.rate, phrases=options.phrases or None, boost=options.boost, endpointing=endpointing)
        return _Live(session, options, Silence())

    def work(self, streams: Sequence[tuple[_Live, Work]]) -> list[tuple[list[Event], StreamError | None]]:
        """Feed all, step together, then do what was asked for."""
        errors = [self._feed(live, work) for live, work in streams]
        heard = iter(self._step([live.session for (live, _), error in zip(streams, errors) if error is None]))
        out: list[tuple[list[Event], StreamError | None]] = []
        for (live, work), error in zip(streams, errors):
            events: list[Event] = []
            found = next(heard) if error is None else []
            try:
                if isinstance(found, Exception):
                    raise found
                if error is None:
                    events += self._tell(live, found, work)
                    events += self._obey(live, work)
                elif error.code == TOO_LARGE:
                    events += self._tell(live, live.session.finalize(), work)
            except Exception:  # the other streams go on
                log.exception("a stream failed")
                error = failed()
            out.append((events, error))
        return out

    def _step(self, sessions: Sequence[Session]) -> Sequence[list[StreamEvent] | Exception]:
        """The events of each, or why it failed: where they fail together, each is tried by itself."""
        try:
            return self.recognizer.step(sessions)
        except Exception as error:
            return [error] if len(sessions) == 1 else [self._step([session])[0] for session in sessions]

    def _feed(self, live: _Live, work: Work) -> StreamError | None:
        session, options = live.session, live.options
        if options.silence is None and session.utterances:
            length = session.utterances[-1].samples / RATE + len(work.data) / options.bytes_per_second
            if length > self.limits.utterance:
                return StreamError(TOO_LARGE, f"an utterance above {self.limits.utterance:g} s; send Finalize in time, or turn "
                                              "endpointing on", 0.0)
        try:
            session.feed(options.samples(work.data))
        except ValueError as error:
            return StreamError(INVALID, str(error))
        return None

    def _tell(self, live: _Live, found: Sequence[StreamEvent], work: Work, asked: bool = False, ended: bool = False) -> list[Event]:
        """Events of the runtime as those of the stream.

        Args:
            asked: the last answers `finalize`; ended: the stream ends with them.
        """
        events: list[Event] = []
        for i, event in enumerate(found):
            last = i == len(found) - 1
            start, end = event.start, event.heard
            if event.final and start == end and not event.hypothesis.text:  # there was no utterance to end
                if not asked:
                    continue
                start = live.silence.end
            elif live.options.silence is not None:
                self._started(live, round(start * RATE), events)
            if event.final:
                live.silence.passed(end)
            short = live.options.silence is not None and end - start < self.limits.endpointing.longest
            pause = event.final and not ended and (asked and last or short)
            if event.final or live.options.interim:
                events.append(Heard(start, end, event.hypothesis, event.final, pause, asked and last, time.monotonic() - work.arrived))
        endpointer = live.session.endpointer
        if endpointer is not None and endpointer.start is not None:
            self._started(live, endpointer.start, events)
        return events

    def _started(self, live: _Live, start: int, events: list[Event]) -> None:
        if start > live.started:
            live.started = start
            events.append(Started(start / RATE))

    def _obey(self, live: _Live, work: Work) -> list[Event]:
        """Do what was asked for after the audio."""
        session, control = live.session, work.control
        if isinstance(control, Finalize):
            return self._tell(live, session.finalize(), work, asked=True)
        if isinstance(control, End):
            return [*self._tell(live, session.finalize(), work, ended=True), Ended()]
        if isinstance(control, Change):
            return [self._change(live, control)]
        if session.endpointer is not None and session.endpointer.start is None and not session.utterances:
            return live.silence.told(session.endpointer.position)
        return []

    def _change(self, live: _Live, change: Change) -> Configured:
        session = live.session
        if change.refused is not None:
            return Configured(change, change.refused)
        if change.phrases is not None:
            try:
                session.favor(change.phrases, live.options.boost)
            except ValueError as error:
                return Configured(change, str(error))
        if change.silence is not None and session.endpointer is not None:
            session.endpointer.options = replace(session.endpointer.options, silence=change.silence)
        live.options = replace(live.options, interim=live.options.interim if change.interim is None else change.interim)
        return Configured(change)

