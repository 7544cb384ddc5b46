"""Recognition from an artifact with onnxruntime and numpy: the calls of voxkit.infer.Recognizer, without torch.

    recognizer = OnnxRecognizer("exp/onnx")
    print(recognizer.transcribe("order.wav").text)
    recognizer.transcribe("hour.mp3", SearchOptions("joint", words=True))
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

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
from voxkit.runtime.attention import BeamOptions, attention_beam, expected_tokens, rescore
from voxkit.runtime.checks import check_samples
from voxkit.runtime.decoder import OnnxDecoder, PromptedDecoder, greedy_tokens
from voxkit.runtime.greedy import Greedy
from voxkit.runtime.parallel import recognize_parallel
from voxkit.runtime.prefix_beam import PrefixBeam
from voxkit.runtime.scorers import Bonus, Ngram, Phrases, combine, phrases, read_ngram
from voxkit.runtime.segments import SegmentOptions, speech_segments
from voxkit.runtime.vad import Vad
from voxkit.search.hallucination import DOUBTED, nobody_speaks
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.ngram_table import NgramTable
from voxkit.text.vocabulary import Vocabulary

_BATCH_SECONDS = 120.0  # of padded audio that goes through the encoder together
_CANDIDATES = 20


@dataclass
class SearchOptions:
    """How to search; the names are those of voxkit.infer.SearchOptions.

    Attributes:
        method: one of `OnnxRecognizer.methods()`.
        beam: hypotheses kept.
        ctc_weight: of CTC in joint decoding and rescoring.
        lm, lm_weight: n-gram (`OnnxRecognizer.language_model`), and its weight.
        context: phrases to favor (`OnnxRecognizer.phrases`).
        length_bonus, length_limit, length_power, coverage: of the decoder's beam; no length_power: 0.5 alone, 0 jointly with CTC.
        words: also give word times and confidences. times: by forced "alignment", or the "peaks" that a CTC search saw.
        temperature: of the confidences; None: as fitted for the method, where the artifact holds that, else 1.
        segments: how long recordings are cut.
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm: NgramTable | None = None
    lm_weight: float = 0.3
    context: Phrases | None = None
    length_bonus: float = 0.0
    length_limit: float = 1.2
    length_power: float | None = None
    coverage: float = 0.0
    words: bool = False
    times: str = "alignment"
    temperature: float | None = None
    segments: SegmentOptions = SegmentOptions()

    def scorer(self, bonus: bool = True) -> Any:
        """Language model, phrases and bonus as one; None where there is none."""
        return combine([Ngram(self.lm, self.lm_weight) if self.lm is not None and self.lm_weight else None,
                        Bonus(self.length_bonus) if bonus and self.length_bonus else None, self.context])

    @property
    def most(self) -> float:
        """What the scorer can add at the most for one token."""
        return self.context.table.most if self.context is not None else 0.0


@dataclass
class Found:
    """What a search says: tokens, score, and where CTC saw them (frames, token_log_probs), empty where it did not say."""

    tokens: list[int]
    score: float
    frames: list[int]
    token_log_probs: list[float]


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
        graphs = self.artifact.meta["graphs"]
        self.decoder = _open_decoder(self.artifact) if "decoder" in graphs else None
        self.parallel = "parallel" in graphs
        self.has_ctc = "ctc" in self.artifact.meta["heads"]
        self._vad: Vad | None = None

    @property
    def seconds_per_frame(self) -> float:
        """Of the encoder's output."""
        return self.artifact.seconds_per_frame

    def methods(self) -> list[str]:
        """The searches that this artifact can do, the usual one first."""
        if self.parallel:
            return ["greedy", *(["ctc_greedy", "prefix_beam"] if self.has_ctc else [])]
        by_ctc = ["greedy", "prefix_beam"] if self.has_ctc else []
        if self.decoder is None:
            return by_ctc
        return [*by_ctc, "attention", "joint", "rescoring"] if by_ctc else ["greedy", "attention"]

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
        if options.times == "peaks" and options.method not in ("greedy", "ctc_greedy", "prefix_beam"):
            raise ValueError(f"method {options.method} has no CTC peaks; its words are aligned")
        at_once = self.parallel and options.method == "greedy"
        if options.lm is not None and (at_once or options.method in ("greedy", "ctc_greedy")):
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
        found = (_METHODS if self.has_ctc else _WITHOUT_CTC)[options.method](self, encoded, options)
        return self.hypothesis(found, encoded, options)

    def hypothesis(self, found: Found, encoded: Encoded, options: SearchOptions) -> Hypothesis:
        """What a search found, as text, with words where they are asked for."""
        tokens = self.vocabulary.spoken(found.tokens)
        out = Hypothesis(self.vocabulary.decode(tokens), [], float(found.score), tokens, encoded.seconds)
        if options.words:
            spans = self._spans(found, tokens, encoded, options)
            out.words = words_from_tokens(spans, self.vocabulary, self.seconds_per_frame, timing=self.timing,
                                          duration=encoded.seconds, temperature=self.temperature(options))
        return out

    @property
    def timing(self) -> TokenTiming | WordTiming | None:
        """What was fitted for word times; None where nothing was."""
        known = self.artifact.calibration.get("timing")
        if not known:
            return None
        return TokenTiming(known["start"], known["end"]) if "start" in known else WordTiming(known["start_shift"], known["end_shift"])

    def temperature(self, options: SearchOptions) -> float:
        """Of the confidences."""
        if options.temperature is not None:
            return options.temperature
        return float(self.artifact.calibration.get("methods", {}).get(options.method, {}).get("temperature", 1.0))

    def _spans(self, found: Found, tokens: list[int], encoded: Encoded, options: SearchOptions) -> list[TokenSpan]:
        if options.times == "peaks":
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
        longest = min(options.segments.longest, self.artifact.longest_seconds)
        segments = speech_segments(self._vad.probabilities(wave), len(wave), replace(options.segments, longest=max(1.0, longest - 1.0)))
        limit = int(self.artifact.longest_seconds * RATE)
        segments = [(start, min(stop, start + limit)) for start, stop in segments]
        found: dict[int, Hypothesis] = {}
        for batch in _batches(segments):
            for i, hypothesis in zip(batch, self.recognize([wave[slice(*segments[i])] for i in batch], options)):
                found[i] = hypothesis
        whole = Hypothesis("", audio_duration=len(wave) / RATE)
        for i, (start, _) in enumerate(segments):
            part = found[i]
            whole.text = f"{whole.text} {part.text}".strip()
            whole.words += [replace(word, start=word.start + start / RATE, end=word.end + start / RATE) for word in part.words]
            whole.tokens += part.tokens
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


class CtcSearch(Protocol):
    """A search in CTC scores that goes on from part to part: `Greedy`, `PrefixBeam`. A state is of the search that made it."""

    def init(self) -> Any:
        """Before the first frame."""

    def advance(self, state: Any, log_probs: np.ndarray) -> Any:
        """Consume frames log_probs [T, V]."""

    def nbest(self, state: Any, nbest: int = 1, *, final: bool = True) -> list[CtcHypothesis]:
        """The best hypotheses, best first; `final`: the utterance ends here."""


def incremental(vocabulary: Vocabulary, options: SearchOptions) -> CtcSearch:
    """The search in CTC scores that the options name, to be fed part by part. With phrases no token is left out for being unlikely on a
    frame: the boost is there to change that. Greedy search with phrases is a beam of one that knows of nothing else."""
    blank = 0 if vocabulary.blank is None else vocabulary.blank
    greedy = options.method in ("greedy", "ctc_greedy")
    if greedy and options.context is None:
        return Greedy(blank)
    wide: dict[str, Any] = {"min_log_prob": -math.inf, "candidates": _candidates(options)} if options.context is not None else {}
    return PrefixBeam(1 if greedy else options.beam, blank=blank, scorer=options.context if greedy else options.scorer(), **wide)


def _ctc_nbest(recognizer: OnnxRecognizer, encoded: Encoded, options: SearchOptions, nbest: int = 1) -> list[CtcHypothesis]:
    assert encoded.log_probs is not None  # `check` lets no such search through without the head
    search = incremental(recognizer.vocabulary, options)
    return search.nbest(search.advance(search.init(), encoded.log_probs), nbest)


def _by_ctc(recognizer: OnnxRecognizer, encoded: Encoded, options: SearchOptions) -> Found:
    best = _ctc_nbest(recognizer, encoded, options)[0]
    return Found(best.tokens, best.score, best.frames, best.token_log_probs)


def _by_decoder(recognizer: OnnxRecognizer, encoded: Encoded, options: SearchOptions) -> Found:
    assert recognizer.decoder is not None  # else `check` knows no method that comes here
    tokens, said, score = greedy_tokens(recognizer.decoder, encoded.states, encoded.frames, frozenset(recognizer.vocabulary.specials))
    return _unless_silent(recognizer, encoded, Found(tokens, score, [], said))


def _unless_silent(recognizer: OnnxRecognizer, encoded: Encoded, found: Found) -> Found:
    """Nothing in the place of what a decoder says that hears nobody speak."""
    decoder, mean = recognizer.decoder, sum(found.token_log_probs) / (len(found.tokens) + 1)
    if decoder is None or decoder.silence is None or not found.tokens or mean >= DOUBTED:
        return found
    return Found([], found.score, [], []) if nobody_speaks(mean, decoder.quiet(encoded.states, encoded.frames)) else found


def _attention(recognizer: OnnxRecognizer, encoded: Encoded, options: SearchOptions) -> Found:
    vocabulary, heard, joint = recognizer.vocabulary, encoded.log_probs, options.method == "joint"
    assert recognizer.decoder is not None
    blank = vocabulary.blank or 0
    expected = expected_tokens(heard, blank) if heard is not None and options.length_limit < math.inf else None
    forbidden = frozenset({*([blank] if heard is not None else []), *vocabulary.specials})
    beam = BeamOptions(options.beam, forbidden, options.ctc_weight, options.length_bonus,
                       options.length_limit, _length_power(options), options.coverage, _candidates(options))
    best = attention_beam(recognizer.decoder, encoded.states, beam, log_probs=heard if joint else None,
                          scorer=options.scorer(bonus=False), most=options.most, expected=expected, frames=encoded.frames)[0]
    found = Found(best.tokens, best.score, [], best.token_log_probs)
    return found if joint else _unless_silent(recognizer, encoded, found)


def _rescoring(recognizer: OnnxRecognizer, encoded: Encoded, options: SearchOptions) -> Found:
    assert recognizer.decoder is not None
    nbest = _ctc_nbest(recognizer, encoded, options, options.beam)
    beam = BeamOptions(options.beam, ctc_weight=options.ctc_weight)
    best = rescore(recognizer.decoder, encoded.states, nbest, beam)[0]
    return Found(best.tokens, best.score, best.frames, best.token_log_probs)


def _candidates(options: SearchOptions) -> int | None:
    """Tokens that a beam looks at in one place: more than usual with phrases, whose tokens the model itself may rank low."""
    return max(_CANDIDATES, 2 * options.beam) if options.context is not None else None


def _length_power(options: SearchOptions) -> float:
    """By which power of its length a hypothesis' score is divided."""
    return (0.5 if options.method == "attention" else 0.0) if options.length_power is None else options.length_power


_METHODS: dict[str, Callable[[OnnxRecognizer, Encoded, SearchOptions], Found]] = {
    "greedy": _by_ctc, "ctc_greedy": _by_ctc, "prefix_beam": _by_ctc, "attention": _attention, "joint": _attention,
    "rescoring": _rescoring}
_WITHOUT_CTC = {"greedy": _by_decoder, "attention": _attention}


def _open_decoder(artifact: Artifact) -> OnnxDecoder:
    tokens, about = artifact.meta["tokens"], artifact.meta.get("prompted")
    sessions = artifact.session("memory"), artifact.session("decoder")
    return OnnxDecoder(*sessions, tokens["bos"], tokens["eos"]) if about is None else PromptedDecoder(*sessions, tokens["eos"], about)
