"""The gate of an export: on real utterances the artifact must give the scores and the text of the model it was made from."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxkit.batch import Batch, Padded
from voxkit.eval.wer import WerResult, score
from voxkit.infer.chunks import Chunk
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.streaming import StreamingRecognizer as TorchStreaming
from voxkit.rate import RATE
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.search.options import SearchOptions as TorchSearch

ENOUGH_WORDS = 3000  # of a check set, for a figure of half a percent
_LIKELY = -10.0  # nats; what is less likely decides nothing, and there single precision shows first
_JUDGED = 20  # utterances that the slow searches hear too


@dataclass
class CheckUtterance:
    """What the gate listens to: [S] float32 at 16 kHz, and what is said (empty = unknown)."""

    id: str
    audio: np.ndarray
    text: str = ""


@dataclass
class GateOptions:
    """Attributes:
    tolerance: largest difference of a float32 artifact's log-probabilities (nats) from the model's, on valid frames.
    max_wer_increase: of smaller weights over the model, absolute (0.005 = one word in two hundred).
    threads: of torch and of onnxruntime, for comparable speeds.
    normalize: text rule before word error rates; None: that of the checkpoint's configuration.
    """

    tolerance: float = 1e-3
    max_wer_increase: float = 0.005
    threads: int = 1
    normalize: str | None = None

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = [f"{name}: {getattr(self, name)} is not 0 or more" for name in ("tolerance", "max_wer_increase")
                 if not getattr(self, name) >= 0]
        return found + ([f"threads: {self.threads}; at least 1"] if self.threads < 1 else [])


@dataclass
class GateReport:
    """How an artifact fared.

    Attributes:
        utterances, seconds, threads: what was heard.
        verified: "text", or "scores" where there was no speech.
        methods: searches whose texts were compared.
        max_difference: of log-probabilities above -10 nats, from the model's; batch_difference: the same for a padded batch.
        different_texts: search → utterances with another text than the model's.
        words: of the references; wer, wer_torch: with intervals, None where there are no references.
        rtf, rtf_torch: median over the utterances.
        problems: why the gate is failed; empty = it is passed.
    """

    utterances: int
    seconds: float
    threads: int
    verified: str
    methods: list[str]
    max_difference: float
    batch_difference: float
    different_texts: dict[str, list[str]]
    words: int = 0
    wer: tuple[float, float, float] | None = None
    wer_torch: tuple[float, float, float] | None = None
    rtf: float = 0.0
    rtf_torch: float = 0.0
    problems: list[str] = field(default_factory=list)

    def rows(self) -> list[dict[str, object]]:
        """For voxkit.eval.table: the model, then the artifact."""
        def wer(value: tuple[float, float, float] | None) -> str:
            return "" if value is None else f"{100 * value[0]:.2f} [{100 * value[1]:.2f}, {100 * value[2]:.2f}]"

        other = sum(map(len, self.different_texts.values()))
        return [{"model": "torch", "score diff.": "", "other texts": "", "WER": wer(self.wer_torch), "RTF": f"{self.rtf_torch:.4f}",
                 "speed-up": "1.00", "gate": ""},
                {"model": "artifact", "score diff.": f"{max(self.max_difference, self.batch_difference):.1e}",
                 "other texts": other if self.verified == "text" else "", "WER": wer(self.wer), "RTF": f"{self.rtf:.4f}",
                 "speed-up": f"{self.rtf_torch / self.rtf:.2f}" if self.rtf else "", "gate": "FAILED" if self.problems else "passed"}]


def check_parity(model: Any, vocabulary: Any, folder: Path, utterances: Sequence[CheckUtterance], *, precision: str,
                 chunk: Chunk | None = None, options: GateOptions | None = None) -> GateReport:
    """Compare an artifact with the model.

    Args:
        model: `prepared`; vocabulary: its.
        folder: the artifact.
        utterances: real speech; none = noise, which tells scores, but no text.
        precision: fp32 (scores and texts must agree), fp16 or int8 (word error rate may rise a little).
        chunk: of a streaming artifact.

    Raises:
        ValueError: options that cannot be.
    """
    options = options or GateOptions()
    if problems := options.problems():
        raise ValueError("; ".join(problems))
    heard = list(utterances) or noise()
    with _threads(options.threads), torch.inference_mode():
        pair = _Streams(model, vocabulary, folder, chunk, options.threads) if chunk is not None else _Whole(
            model, vocabulary, folder, options.threads)
        with pair:
            report = _compare(pair, heard, bool(utterances), options)
    report.problems = _problems(report, precision, options)
    return report


def noise(count: int = 4) -> list[CheckUtterance]:
    """Stand-ins where there is no check set: the same noise each time, of several lengths, no transcripts."""
    generator = np.random.default_rng(0)
    sizes = [RATE * (1 + 2 * i) + 37 * i for i in range(count)]
    return [CheckUtterance(f"noise-{size}", (0.1 * generator.standard_normal(size)).astype(np.float32)) for size in sizes]


class _Whole:
    """Model and artifact over whole utterances."""

    def __init__(self, model: Any, vocabulary: Any, folder: Path, threads: int) -> None:
        self.model, self.torch = model, Recognizer(model, vocabulary)
        self.onnx = OnnxRecognizer(folder, threads=threads)
        self.logarithms = self.onnx.has_ctc  # of a head that says log-probabilities; else states are compared
        known = self.torch.methods()
        self.methods = [m for m in ("greedy", "joint" if "joint" in self.onnx.methods() else "attention", "transducer_greedy")
                        if m in self.onnx.methods() and m in known]

    def __enter__(self) -> _Whole:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def scores(self, audios: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Log-probabilities (states without a CTC head) of a batch, by the model and by the artifact."""
        encoded = self.model.encode(Batch([""] * len(audios), audio=Padded.of([torch.from_numpy(a) for a in audios])))
        found = self.onnx.artifact.encode(audios)
        values = self.model.ctc_log_probs(encoded.states) if self.onnx.has_ctc else encoded.states
        theirs = [row[:n].numpy() for row, n in zip(values, encoded.lengths.tolist())]
        return theirs, [f.states[:f.frames] if f.log_probs is None else f.log_probs for f in found]

    def texts(self, audio: np.ndarray, method: str) -> tuple[tuple[str, float], tuple[str, float]]:
        """Text and seconds it took, by the model and by the artifact."""
        return (_timed(lambda: self.torch.transcribe(torch.from_numpy(audio), TorchSearch(method)).text),
                _timed(lambda: self.onnx.recognize([audio], SearchOptions(method))[0].text))


class _Streams:
    """Model and artifact chunk by chunk; the scores are those of the model's masked offline pass."""

    methods = ("greedy",)
    logarithms = True

    def __init__(self, model: Any, vocabulary: Any, folder: Path, chunk: Chunk, threads: int) -> None:
        self.model, self.chunk, self.before = model, chunk, (model.encoder.chunk, model.encoder.left_context)
        self.torch = TorchStreaming(Recognizer(model, vocabulary), TorchSearch(), chunk_ms=chunk.frames * chunk.ms,
                                    left_ms=chunk.left * chunk.ms)
        self.onnx = StreamingRecognizer(folder, SearchOptions(), threads=threads)

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.model.encoder.set_chunk(*self.before)

    def scores(self, audios: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        self.chunk.set(self.model)
        encoded = self.model.encode(Batch([""] * len(audios), audio=Padded.of([torch.from_numpy(a) for a in audios])))
        values = self.model.ctc_log_probs(encoded.states)
        return [row[:n].numpy() for row, n in zip(values, encoded.lengths.tolist())], [self.onnx.log_probs(a) for a in audios]

    def texts(self, audio: np.ndarray, method: str) -> tuple[tuple[str, float], tuple[str, float]]:
        return _timed(lambda: self._by_torch(audio)), _timed(lambda: self._by_onnx(audio))

    def _by_torch(self, audio: np.ndarray) -> str:
        self.torch.reset()
        self.torch.accept(torch.from_numpy(audio))
        return self.torch.finish().text

    def _by_onnx(self, audio: np.ndarray) -> str:
        session = self.onnx.session(endpointing=None)
        return (session.accept(audio) + session.finalize())[-1].hypothesis.text


def _compare(pair: _Whole | _Streams, heard: list[CheckUtterance], speech: bool, options: GateOptions) -> GateReport:
    difference, times = 0.0, []
    texts: dict[str, tuple[dict[str, str], dict[str, str]]] = {method: ({}, {}) for method in pair.methods}
    pair.texts(heard[0].audio, pair.methods[0])  # the first run allocates
    for place, utterance in enumerate(heard):
        difference = max(difference, _difference(*pair.scores([utterance.audio]), pair.logarithms))
        for method, (theirs, ours) in texts.items():
            if method != pair.methods[0] and place >= _JUDGED:
                continue
            (theirs[utterance.id], slow), (ours[utterance.id], quick) = pair.texts(utterance.audio, method)
            if method == pair.methods[0]:
                times.append((slow * RATE / len(utterance.audio), quick * RATE / len(utterance.audio)))
    seconds = sum(len(u.audio) for u in heard) / RATE
    report = GateReport(
        len(heard), seconds, options.threads, "text" if speech else "scores", list(pair.methods), difference,
        _difference(*pair.scores([u.audio for u in sorted(heard, key=lambda u: len(u.audio))[:4]]), pair.logarithms),
        {method: [i for i in theirs if theirs[i] != ours[i]] for method, (theirs, ours) in texts.items()},
        rtf=statistics.median(quick for _, quick in times), rtf_torch=statistics.median(slow for slow, _ in times))
    references = {u.id: u.text for u in heard if u.text.strip()}
    if references:
        theirs, ours = texts[pair.methods[0]]
        by_torch, by_onnx = (score(references, {i: found[i] for i in references}, normalize=options.normalize or "none")
                             for found in (theirs, ours))
        report.words, report.wer_torch, report.wer = by_onnx.words, _with_interval(by_torch), _with_interval(by_onnx)
    return report


def _with_interval(result: WerResult) -> tuple[float, float, float]:
    """Word error rate and its interval; the same number three times where there is too little to tell one."""
    return (result.rate, *(result.interval(samples=2000) or (result.rate, result.rate)))


def _difference(ones: Sequence[np.ndarray], others: Sequence[np.ndarray], logarithms: bool) -> float:
    """The largest between scores [T', V] of the same utterances: of log-probabilities where the first are likely, of states in proportion
    to those beyond ± 1; infinite where they have not as many frames, or are NaN."""
    largest = 0.0
    for one, other in zip(ones, others):
        if one.shape != other.shape:
            return float("inf")
        away = np.where(one > _LIKELY, one - other, 0.0) if logarithms else (one - other) / np.maximum(np.abs(one), 1.0)
        distance = float(np.abs(away).max(initial=0.0))
        largest = max(largest, distance if distance == distance and np.isfinite(other).all() else float("inf"))
    return largest


def _problems(report: GateReport, precision: str, options: GateOptions) -> list[str]:
    if precision != "fp32":
        if max(report.max_difference, report.batch_difference) == float("inf"):
            return ["scores are NaN, or of another number of frames"]
        if report.wer is None or report.wer_torch is None or report.wer[0] - report.wer_torch[0] <= options.max_wer_increase:
            return []
        return [f"WER {100 * report.wer[0]:.2f} % against {100 * report.wer_torch[0]:.2f} %, above --max-wer-increase "
                f"{100 * options.max_wer_increase:g} %"]
    found = [f"scores{what} differ by {value:.2e}, above --tolerance {options.tolerance:g}"
             for what, value in (("", report.max_difference), (" of a batch", report.batch_difference)) if value > options.tolerance]
    if report.verified == "text":
        found += [f"{method}: {len(ids)} utterances have another text: {', '.join(ids[:3])}"
                  for method, ids in report.different_texts.items() if ids]
    return found


def _timed(run: Any) -> tuple[str, float]:
    began = time.perf_counter()
    return run(), time.perf_counter() - began


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
