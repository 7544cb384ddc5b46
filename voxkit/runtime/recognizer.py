"""Recognition from an artifact with onnxruntime and numpy: the calls of voxkit.infer.Recognizer, without torch.

    recognizer = OnnxRecognizer("exp/onnx")
    print(recognizer.transcribe("order.wav").text)
    recognizer.transcribe("hour.mp3", SearchOptions("joint", words=True))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from voxkit.align.attention import spoken_spans
from voxkit.align.spans import TokenSpan, spans_from_peaks
from voxkit.align.timing import TokenTiming, WordTiming
from voxkit.align.words import words_from_tokens
from voxkit.audio.decode import read_mono
from voxkit.hypothesis import Hypothesis
from voxkit.rate import RATE
from voxkit.runtime.align import forced_align
from voxkit.runtime.artifact import Artifact, Encoded
from voxkit.runtime.checks import check_samples
from voxkit.runtime.long_audio import recognize_long
from voxkit.runtime.parallel import recognize_parallel
from voxkit.runtime.scorers import Phrases, phrases, read_ngram
from voxkit.runtime.searches import PEAKED, Heads, SearchOptions, SearchResult, incremental, searches_of
from voxkit.runtime.vad import Vad
from voxkit.search.ngram_table import NgramTable

__all__ = ["OnnxRecognizer", "SearchOptions", "incremental"]


class OnnxRecognizer:
    """An artifact and the searches over its scores.

    Args:
        artifact: or its directory.
        threads: of onnxruntime; 0 = all cores. device: `cpu`, `cuda` or `tensorrt`.

    Raises:
        ValueError: no artifact there; MissingPackage: onnxruntime is not installed.
    """

    def __init__(self, artifact: Artifact | str | os.PathLike, *, threads: int = 0, device: str = "cpu") -> None:
        self.artifact = artifact if isinstance(artifact, Artifact) else Artifact(artifact, threads=threads, device=device)
        self.vocabulary = self.artifact.vocabulary
        self.heads = Heads.of(self.artifact)
        self.has_ctc, self.parallel, self.decoder = self.heads.ctc, self.heads.parallel, self.heads.decoder
        self._searches = searches_of(self.heads)
        self._vad: Vad | None = None

    @property
    def seconds_per_frame(self) -> float:
        """Of the encoder's output."""
        return self.artifact.seconds_per_frame

    def methods(self) -> list[str]:
        """The searches that this artifact can do, the usual one first."""
        return [*(["greedy"] if self.parallel else []), *self._searches]

    def language_model(self, path: str | os.PathLike) -> NgramTable:
        """An n-gram in ARPA over this artifact's pieces.

        Raises:
            ValueError: it is over other tokens, or no ARPA file.
        """
        return read_ngram(Path(path), self.vocabulary)

    def phrases(self, wanted: Mapping[str, float] | Iterable[str], boost: float = 1.5) -> Phrases:
        """Phrases that the search should favor by `boost` nats per token, or each by its own.

        Raises:
            ValueError: none, or one that the vocabulary cannot spell.
        """
        return phrases(wanted, self.vocabulary, boost)

    def check(self, options: SearchOptions) -> None:
        """Refuse what is no search of this artifact.

        Raises:
            ValueError: an unknown method, one whose head is not in the artifact, or one that does not take what the options hold.
        """
        if options.method not in self.methods():
            raise ValueError(f"method {options.method!r} is none of {', '.join(self.methods())}, the searches of {self.artifact.folder}")
        if options.times not in ("alignment", "peaks"):
            raise ValueError(f"times {options.times!r} is none of alignment, peaks")
        if options.times == "peaks" and (options.method not in PEAKED or not (self.has_ctc or self.heads.transducer)):
            raise ValueError(f"method {options.method} has no CTC peaks; its words are aligned")
        at_once = self.parallel and options.method == "greedy"
        if options.lm is not None and (at_once or options.method in ("greedy", "ctc_greedy", "transducer_greedy")):
            raise ValueError(f"method {options.method} takes no language model; {', '.join(self.methods()[1:]) or 'none here'} would")
        if options.context is not None and at_once:
            raise ValueError("method greedy says all tokens at once, none knows of the others: it takes no phrases")

    def transcribe(self, audio: str | os.PathLike | np.ndarray, options: SearchOptions | None = None) -> Hypothesis:
        """One file, or one waveform [S] at 16 kHz, of any length: what is longer than the model takes is cut in silence.

        Raises:
            ValueError: a file that cannot be read, or audio that cannot be used; MissingPackage: long audio, and no silero.
        """
        options = options or SearchOptions()
        self.check(options)
        name = "audio" if isinstance(audio, np.ndarray) else str(audio)
        wave = check_samples(audio if isinstance(audio, np.ndarray) else read_mono(audio)[0], name)
        if len(wave) <= self.artifact.longest_seconds * RATE:
            return self.recognize([wave], options, [name])[0]
        return self._transcribe_long(wave, options)

    def recognize(self, audios: Sequence[np.ndarray], options: SearchOptions | None = None,
                  names: Sequence[str] | None = None) -> list[Hypothesis]:
        """Waveforms [S] float32 at 16 kHz, as one batch → their hypotheses, in order.

        Raises:
            ValueError: a search that is none of this artifact (`check`), or audio that cannot be used, by name.
        """
        options = options or SearchOptions()
        self.check(options)
        return [self.search(encoded, options) for encoded in self.artifact.encode(audios, names)]

    def search(self, encoded: Encoded, options: SearchOptions) -> Hypothesis:
        """What was encoded of one utterance → its hypothesis."""
        if self.parallel and options.method == "greedy":
            return recognize_parallel(self.artifact, encoded, options.words, self.temperature(options))
        found = self._searches[options.method](self.heads, encoded, options)
        return self.hypothesis(found, encoded, options)

    def hypothesis(self, found: SearchResult, encoded: Encoded, options: SearchOptions) -> Hypothesis:
        """What a search found, as text, with words where they are asked for."""
        tokens = self.vocabulary.spoken(found.tokens)
        out = Hypothesis(self.vocabulary.decode(tokens), [], float(found.score), tokens, encoded.seconds)
        if options.words:
            timing = self._timing("timing_transducer") if self._by_transducer(options) else self.timing
            spans = self._spans(found, tokens, encoded, options)
            out.words = words_from_tokens(spans, self.vocabulary, self.seconds_per_frame, timing=timing,
                                          duration=encoded.seconds, temperature=self.temperature(options))
        return out

    def _by_transducer(self, options: SearchOptions) -> bool:
        """Whether a transducer searches: it alone says when its tokens come."""
        return self.heads.transducer is not None and (options.method.startswith("transducer") or options.method == "greedy"
                                                      and not self.has_ctc)

    @property
    def timing(self) -> TokenTiming | WordTiming | None:
        """What was fitted for word times by CTC; None where nothing was."""
        return self._timing("timing")

    def _timing(self, name: str) -> TokenTiming | WordTiming | None:
        known = self.artifact.calibration.get(name)
        if not known:
            return None
        return TokenTiming(known["start"], known["end"]) if "start" in known else WordTiming(known["start_shift"], known["end_shift"])

    def temperature(self, options: SearchOptions) -> float:
        """Of the confidences."""
        if options.temperature is not None:
            return options.temperature
        return float(self.artifact.calibration.get("methods", {}).get(options.method, {}).get("temperature", 1.0))

    def _spans(self, found: SearchResult, tokens: list[int], encoded: Encoded, options: SearchOptions) -> list[TokenSpan]:
        if options.times == "peaks" or self._by_transducer(options):
            return [span for span in spans_from_peaks(found) if span.token not in self.vocabulary.specials]
        if encoded.log_probs is None:
            return self._followed(tokens, encoded)
        return forced_align(encoded.log_probs, tokens) or []

    def _followed(self, tokens: list[int], encoded: Encoded) -> list[TokenSpan]:
        """Where the decoder looks while it says the tokens; none where no head of it is known to follow the audio."""
        if self.decoder is None or not self.decoder.follows or not tokens:
            return []
        weights, said, first = self.decoder.follow(encoded.states, encoded.frames, tokens)
        return spoken_spans(weights, tokens, said, self.vocabulary, frames=encoded.frames, first=first)

    def _transcribe_long(self, wave: np.ndarray, options: SearchOptions) -> Hypothesis:
        """Speech by segments; times are the recording's."""
        if self._vad is None:
            self._vad = Vad()
        return recognize_long(wave, lambda waves: self.recognize(waves, options), self.artifact.longest_seconds, self._vad,
                              options.segments)
