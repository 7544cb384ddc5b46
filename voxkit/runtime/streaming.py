"""Speech recognized as it comes, from a streaming artifact: any number of sessions, whose chunks go through the encoder together.

    recognizer = StreamingRecognizer("exp/streaming")
    session = recognizer.session(rate=48000, phrases=["heal me"])
    for samples in microphone:
        for event in session.accept(samples):
            print(event.final, event.hypothesis.text)
    print(session.finalize()[-1].hypothesis.text)

A service feeds its sessions and steps them together: `session.feed(samples)`, then `recognizer.step(sessions)`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from voxkit.align.spans import spans_from_peaks
from voxkit.align.words import words_from_tokens
from voxkit.audio.decode import check_rate
from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.artifact import Artifact
from voxkit.runtime.checks import check_samples
from voxkit.runtime.endpoint import Endpointer, Endpointing
from voxkit.runtime.fbank import FbankStream
from voxkit.runtime.recognizer import SearchOptions, incremental
from voxkit.runtime.resample import ResampleStream
from voxkit.runtime.scorers import phrases as spelled
from voxkit.runtime.second_pass import PhraseList, SecondPass
from voxkit.runtime.vad import Vad

_SLICE = RATE // 2  # samples of a long piece that are worked on at a time
_LEAST = 9  # feature frames of which one vector comes
_MOST = 64  # sessions that go through the encoder together
_USUAL = Endpointing()
STREAMED = ("greedy", "prefix_beam")


@dataclass(frozen=True)
class StreamEvent:
    """What a session has to say.

    Attributes:
        final: whether the utterance is over; else the text may still change.
        hypothesis: of the utterance; a final one has words, with times from the beginning of the session.
        start: seconds from the beginning of the session to that of the utterance; heard: to the end of what was heard of it.
    """

    final: bool
    hypothesis: Hypothesis
    start: float
    heard: float


@dataclass
class _Utterance:
    """One that is being recognized: samples from `start` on, features that wait, the encoder's tensors and the search's state."""

    start: int
    fbank: FbankStream
    state: dict[str, np.ndarray]
    beam: Any
    features: np.ndarray
    audio: list[np.ndarray] = field(default_factory=list)
    samples: int = 0
    ended: bool = False
    text: str = ""

    def accept(self, audio: np.ndarray, ends: bool, keep: bool) -> None:
        self.samples += len(audio)
        if keep:
            self.audio.append(audio)
        self.features = np.concatenate([self.features, self.fbank.accept(audio, final=ends)])
        self.ended = ends


class StreamingRecognizer:
    """A streaming artifact and the search over its scores.

    Args:
        artifact: or its directory, made with `voxkit export --streaming`.
        options: method greedy or prefix_beam; language model, phrases and bonus as offline.
        second: a model of full context, which reads each utterance once more at its end and says the final text: `ArtifactPass`, or
            another SecondPass.
        threads: of onnxruntime; device: `cpu` or `cuda`.

    Raises:
        ValueError: an artifact that does not stream, or a search that does not.
    """

    def __init__(self, artifact: Artifact | str | os.PathLike, options: SearchOptions | None = None, *,
                 second: SecondPass | None = None, threads: int = 1, device: str = "cpu") -> None:
        self.artifact = artifact if isinstance(artifact, Artifact) else Artifact(artifact, threads=threads, device=device)
        self.options = options or SearchOptions(words=True)
        self.second = second
        if self.artifact.streaming is None:
            raise ValueError(f"{self.artifact.folder} takes whole utterances; make a streaming artifact of a causal model with "
                             "`voxkit export CHECKPOINT --streaming --chunk-ms 320 --out DIR`")
        if self.options.method not in STREAMED:
            raise ValueError(f"method {self.options.method} does not stream; {' and '.join(STREAMED)} do")
        if self.options.method == "greedy" and self.options.lm is not None:
            raise ValueError("method greedy takes no language model; prefix_beam does")
        self.chunk, self.hop = int(self.artifact.streaming["features"]), int(self.artifact.streaming["hop"])
        self.encoder = self.artifact.session("encoder")
        self._outputs = [output.name for output in self.encoder.get_outputs()]
        self._empty = {i.name: np.zeros((1, *i.shape[1:]), np.int64 if "int64" in i.type else np.float32)
                       for i in self.encoder.get_inputs() if i.name not in ("features", "lengths")}
        self._vad: Vad | None = None

    @property
    def state_bytes(self) -> int:
        """Of the encoder's state of one session."""
        return sum(value.nbytes for value in self._empty.values())

    def session(self, *, rate: int = RATE, phrases: PhraseList | None = None, boost: float = 1.5,
                endpointing: Endpointing | None = _USUAL) -> Session:
        """A stream before its first sample.

        Args:
            rate: samples per second of what it will be fed, 1000 to 768000.
            phrases: to favor in this session by `boost` nats per token, or each by its own, instead of the recognizer's; in both passes.
            endpointing: when utterances end; None: when `finalize` says so, and silence is recognized like everything else.

        Raises:
            ValueError: a rate that is none, phrases that cannot be spelled, options that cannot be; MissingPackage: endpointing, and no
                silero.
        """
        endpointer = None
        if endpointing is not None:
            self._vad = self._vad or Vad()
            endpointer = Endpointer(self._vad, endpointing)
        session = Session(self, check_rate(rate, "session"), endpointer)
        session.favor(phrases, boost)
        return session

    def step(self, sessions: Sequence[Session]) -> list[list[StreamEvent]]:
        """Work on everything that sessions were fed → the events of each. Chunks that are ready go through the encoder together.

        Where one fails, it raises; the events of the others stay with them, and each goes on with a step of its own.
        """
        while True:
            for session in sessions:
                session.end_utterances()
            ready = [session for session in sessions if session.ready]
            if not ready:
                return [session.take_events() for session in sessions]
            for first in range(0, len(ready), _MOST):
                batch = ready[first:first + _MOST]
                self._run([session.utterances[0] for session in batch])
                for session in batch:
                    session.note_change()

    def log_probs(self, audio: np.ndarray) -> np.ndarray:
        """CTC log-probabilities [T', V] of one utterance [S] at 16 kHz, chunk by chunk: what a search would see."""
        utterance, collected = self._begin(0, self.options), _Collected()
        utterance.beam = collected, None
        utterance.accept(check_samples(audio, "audio"), True, False)
        while len(utterance.features) >= _LEAST:
            self._run([utterance])
        return np.concatenate([np.zeros((0, self.artifact.meta["vocab_size"]), np.float32), *collected.parts])

    def _run(self, utterances: list[_Utterance]) -> None:
        """One chunk of each through the encoder, and into its search."""
        features = np.zeros((len(utterances), self.chunk, utterances[0].features.shape[1]), np.float32)
        lengths = np.array([min(len(u.features), self.chunk) for u in utterances])
        for row, u, n in zip(features, utterances, lengths):
            row[:n] = u.features[:n]
        state = {name: np.concatenate([u.state[name] for u in utterances]) for name in self._empty}
        found = dict(zip(self._outputs, self.encoder.run(self._outputs, {"features": features, "lengths": lengths, **state})))
        for i, u in enumerate(utterances):
            search, beam = u.beam
            u.beam = search, search.advance(beam, found["log_probs"][i, :found["frames"][i]])
            u.state = {name: found[f"next.{name}"][i:i + 1] for name in self._empty}
            u.features = u.features[self.hop:]

    def _begin(self, start: int, options: SearchOptions) -> _Utterance:
        search = incremental(self.artifact.vocabulary, options)
        fbank = self.artifact.fbank
        assert fbank is not None  # a pretrained front end does not stream
        return _Utterance(start, FbankStream(fbank), self._empty, (search, search.init()), np.zeros((0, fbank.num_bins), np.float32))


class Favored(NamedTuple):
    """Phrases of one session, None: the recognizer's own; nats per token of those that have no boost of their own."""

    phrases: PhraseList | None
    boost: float


class _Collected:
    """In the place of a search: keeps what it is given."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []

    def advance(self, beam: None, log_probs: np.ndarray) -> None:
        self.parts.append(log_probs)


class Session:
    """A stream of samples; `StreamingRecognizer.session` makes it."""

    def __init__(self, recognizer: StreamingRecognizer, rate: int, endpointer: Endpointer | None) -> None:
        self.recognizer, self.rate, self.options, self.endpointer = recognizer, rate, recognizer.options, endpointer
        self.favored = Favored(None, 0.0)
        self.resampler = ResampleStream(rate)
        self.samples = 0  # at 16 kHz, so far
        self.utterances: deque[_Utterance] = deque()  # the first is being recognized
        self._events: list[StreamEvent] = []  # that `step` has not given away

    def favor(self, phrases: PhraseList | None, boost: float = 1.5) -> None:
        """Phrases of the utterances that begin from now on, as of `StreamingRecognizer.session`; none: the recognizer's own.

        Raises:
            ValueError: one that cannot be spelled, in either pass; those of before stay.
        """
        phrases = dict(phrases) if isinstance(phrases, Mapping) else tuple(phrases or ())
        recognizer = self.recognizer
        if phrases and recognizer.second is not None:
            recognizer.second.check_phrases(phrases, boost)
        context = spelled(phrases, recognizer.artifact.vocabulary, boost) if phrases else recognizer.options.context
        self.options, self.favored = replace(self.options, context=context), Favored(phrases or None, boost)

    @property
    def seconds(self) -> float:
        """Of audio, so far."""
        return self.samples / RATE

    @property
    def ready(self) -> bool:
        """Whether there is a chunk to work on."""
        if not self.utterances:
            return False
        u = self.utterances[0]
        return len(u.features) >= (_LEAST if u.ended else self.recognizer.chunk)

    def accept(self, samples: np.ndarray) -> list[StreamEvent]:
        """The next samples [S] float in [-1, 1] at the session's rate, any number of them → what is new.

        Raises:
            ValueError: other samples than that; the session goes on without them.
        """
        samples = check_samples(samples, f"samples after {self.seconds:.2f} s")
        events: list[StreamEvent] = []
        size = max(1, _SLICE * self.rate // RATE)
        for first in range(0, len(samples), size):
            self.feed(samples[first:first + size])
            events += self.recognizer.step([self])[0]
        return events

    def feed(self, samples: np.ndarray) -> None:
        """The next samples, to be worked on by `StreamingRecognizer.step`.

        Raises:
            ValueError: as `accept`.
        """
        self._take(self.resampler.accept(check_samples(samples, f"samples after {self.seconds:.2f} s")))

    def finalize(self) -> list[StreamEvent]:
        """The utterance, if there is one, ends here → what is new; the last event is final. The session goes on with another."""
        self._take(self.resampler.accept(np.zeros(0, np.float32), final=True))
        self.resampler = ResampleStream(self.rate)
        if self.endpointer is not None:
            for start, audio, ends in self.endpointer.finish():
                self._utterance(start, audio, ends)
        elif self.utterances:
            self.utterances[-1].accept(np.zeros(0, np.float32), True, False)
        events = self.recognizer.step([self])[0]
        if not events or not events[-1].final:
            events.append(StreamEvent(True, Hypothesis(""), self.seconds, self.seconds))
        return events

    def end_utterances(self) -> None:
        """For `step`: end the utterances of which nothing is left to work on."""
        while self.utterances and self.utterances[0].ended and not self.ready:
            self._events.append(self._final(self.utterances[0]))
            self.utterances.popleft()  # only now: one that failed fails again

    def note_change(self) -> None:
        """For `step`: an event, if the text of the utterance that is being recognized is another than before."""
        u = self.utterances[0]
        search, beam = u.beam
        text = self._text(search.nbest(beam, 1, final=False)[0].tokens)
        if text != u.text:
            u.text = text
            self._events.append(StreamEvent(False, Hypothesis(text, audio_duration=u.samples / RATE), u.start / RATE, self.seconds))

    def take_events(self) -> list[StreamEvent]:
        """For `step`: the events since the last call."""
        events, self._events = self._events, []
        return events

    def _take(self, audio: np.ndarray) -> None:
        begin, self.samples = self.samples, self.samples + len(audio)
        if self.endpointer is not None:
            for start, part, ends in self.endpointer.accept(audio):
                self._utterance(start, part, ends)
        elif len(audio):
            self._utterance(begin, audio, False)

    def _utterance(self, start: int, audio: np.ndarray, ends: bool) -> None:
        if not self.utterances or self.utterances[-1].ended:
            self.utterances.append(self.recognizer._begin(start, self.options))
        self.utterances[-1].accept(audio, ends, self.recognizer.second is not None)

    def _final(self, u: _Utterance) -> StreamEvent:
        start, duration, second = u.start / RATE, u.samples / RATE, self.recognizer.second
        if second is not None:
            wave = np.concatenate([*u.audio, np.zeros(0, np.float32)])
            found = second.read(wave, self.favored.phrases, self.favored.boost) if len(wave) else Hypothesis("")
            words = [replace(word, start=word.start + start, end=word.end + start) for word in found.words]
            return StreamEvent(True, replace(found, words=words), start, start + duration)
        search, beam = u.beam
        best, artifact = search.nbest(beam, 1)[0], self.recognizer.artifact
        spans = [span for span in spans_from_peaks(best) if span.token not in artifact.vocabulary.specials]
        known = artifact.calibration.get("methods", {}).get(self.options.method, {})
        temperature = self.options.temperature if self.options.temperature is not None else float(known.get("temperature", 1.0))
        words = words_from_tokens(spans, artifact.vocabulary, artifact.seconds_per_frame, duration=duration, offset=start,
                                  temperature=temperature)
        tokens = artifact.vocabulary.spoken(best.tokens)
        hypothesis = Hypothesis(artifact.vocabulary.decode(tokens), words, float(best.score), tokens, duration)
        return StreamEvent(True, hypothesis, start, start + duration)

    def _text(self, tokens: list[int]) -> str:
        return self.recognizer.artifact.vocabulary.decode(self.recognizer.artifact.vocabulary.spoken(tokens))
