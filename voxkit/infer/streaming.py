"""Speech recognized as it comes: audio in pieces of any size → the text so far, and in the end what the masked offline pass gives.

    stream = StreamingRecognizer("exp/causal", SearchOptions("prefix_beam"), chunk_ms=320)
    for samples in microphone:  # float32 [S] at 16 kHz
        print(stream.accept(samples).text)
    print(stream.finish().text)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxkit.hypothesis import Hypothesis
from voxkit.infer.chunks import chunk_of
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.rate import RATE
from voxkit.search.method import streaming_methods

PIECE = 0.04  # seconds of audio that come at a time, where a whole recording is streamed


class StreamingRecognizer:
    """One utterance at a time, heard as it is spoken: `finish` and `reset` at its end, since a beam's text so far costs more the longer it
    is, above all with words.

    Fbank, convolutional front end, encoder (CTC heads half-way up included) and search each go on from their state, so that nothing is
    computed twice. A chunk is recognized as soon as its audio is there, and the 0.14 s beyond it that the convolutions look at.

    Args:
        recognizer: or the path of a checkpoint or run, which is loaded.
        options: a method that streams (greedy, prefix_beam); language model, phrases and length bonus as offline. Words are timed by the
            peaks that the search saw, whatever `times` says: an alignment takes the whole.
        chunk_ms, left_ms: milliseconds of a chunk, and of what is seen before it; by default the first bounded ones of training.

    Attributes:
        chunk: both, in frames. They are set in the model, whose offline passes then give the same.

    Raises:
        ValueError: a model or a method that does not stream (`check_streaming`), chunks that do not fit it.
    """

    def __init__(self, recognizer: Recognizer | str | os.PathLike, options: SearchOptions | None = None, *, chunk_ms: float | None = None,
                 left_ms: float | None = None) -> None:
        self.recognizer = recognizer if isinstance(recognizer, Recognizer) else Recognizer.load(recognizer)
        self.options = replace(options or SearchOptions(), times="peaks")
        check_streaming(self.recognizer, self.options)
        self.chunk = chunk_of(self.recognizer.model, chunk_ms, left_ms)
        streams = self.recognizer.method(self.options.method).streams
        assert streams is not None, "check_streaming refuses a method that takes the whole utterance"
        self.search = streams(self.recognizer.model.heads, self.options)
        self.reset()

    def reset(self) -> None:
        """Forget what was heard: the next piece begins another utterance."""
        self.chunk.set(self.recognizer.model)
        device = self.recognizer.device
        self._state = self.recognizer.model.init_state(1, device)
        self._beam = self.search.init(1, device)
        self._heard = Hypothesis("")
        self._samples, self._finished = 0, False

    def accept(self, samples: Tensor | np.ndarray) -> Hypothesis:
        """The next samples [S], float32 in [-1, 1] at 16 kHz, any number of them → what is recognized so far; it may still change.

        Raises:
            ValueError: other samples than that, or the utterance is over.
        """
        wave = torch.as_tensor(samples)
        if wave.ndim != 1 or not wave.is_floating_point():
            raise ValueError(f"a stream takes float32 samples [S] in [-1, 1], not {wave.dtype} {list(wave.shape)}; of 16-bit samples give "
                             "samples / 32768")
        if not wave.isfinite().all():
            raise ValueError(f"samples after {self._samples / RATE:.2f} s hold NaN or infinity")
        return self._go_on(wave, final=False)

    def finish(self) -> Hypothesis:
        """The utterance ends here → what was recognized, as offline; nothing where it was shorter than 90 ms. `reset` begins another."""
        hypothesis = self._go_on(torch.zeros(0), final=True)
        self._finished = True
        return hypothesis

    @property
    def seconds(self) -> float:
        """Of audio, so far."""
        return self._samples / RATE

    @torch.inference_mode()
    def _go_on(self, wave: Tensor, final: bool) -> Hypothesis:
        if self._finished:
            raise ValueError("the utterance is finished: reset() begins another")
        model, device = self.recognizer.model, self.recognizer.device
        self._samples += len(wave)
        self.chunk.set(model)  # another stream of the same model may have other chunks
        states, self._state = model.stream(wave.to(device, torch.float32)[None], self._state, final=final)
        if states.shape[1]:
            self._beam = self.search.advance(self._beam, states, torch.tensor([states.shape[1]], device=device))
        if states.shape[1] or final:
            best = [row[0] for row in self.search.nbest(self._beam, 1, final=final)]
            heard = self.recognizer.hypotheses(best, [self.seconds], self.options)
            if self.options.words:
                self.recognizer.add_peaked_words(heard, best, self.options)
            self._heard = heard[0]
        return replace(self._heard, audio_duration=self.seconds)


def check_streaming(recognizer: Recognizer, options: SearchOptions) -> None:
    """Refuse what does not stream.

    Raises:
        ValueError: a method that takes the whole utterance, a second language model, a model with an encoder that looks at all of it; or
            options that the method does not take offline either.
    """
    check_method(options.method, options.rescore_lm is not None)
    check_model(recognizer.model)
    if recognizer.method(options.method).streams is None:
        raise ValueError(f"method {options.method} of a {type(recognizer.model).__name__} takes the whole utterance and does not stream")
    if reason := recognizer.refusal(options):
        raise ValueError(reason)
    recognizer.check(options)


def check_method(method: str, ranked: bool = False) -> None:
    """The part of it that is of the search; `ranked`: by a second language model."""
    able = streaming_methods()
    if method not in able:
        raise ValueError(f"method {method} does not stream, since it takes the whole utterance; {', '.join(able)} do")
    if ranked:
        raise ValueError("a second language model (--rescore-lm) ranks whole hypotheses and does not stream; omit it, or decode "
                         "without --stream. --lm and --phrases stream")


def check_model(model: Any) -> None:
    """The part of it that is of the model."""
    if reason := model.not_streaming():
        raise ValueError(reason)


def stream_recording(stream: StreamingRecognizer, audio: Tensor, piece: float = PIECE) -> Iterator[tuple[float, Hypothesis, bool]]:
    """A whole recording [S] as if it were spoken now: (seconds of audio heard, what was recognized with them, False) each time that the
    text changes, and in the end (all of them, the final hypothesis, True).

    Args:
        piece: seconds that come at a time.
    """
    stream.reset()
    text = ""
    for part in audio.split(round(piece * RATE)):
        hypothesis = stream.accept(part)
        if hypothesis.text != text:
            text = hypothesis.text
            yield stream.seconds, hypothesis, False
    hypothesis = stream.finish()
    yield stream.seconds, hypothesis, True
