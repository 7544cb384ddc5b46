"""Decoding a test set, and measuring what it costs: real-time factor, latency, memory, size of the model."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from voxkit.batch import Batch, audio_batch
from voxkit.data.loader import build_eval_loader
from voxkit.hypothesis import Hypothesis
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.infer.streaming import StreamingRecognizer, stream_recording
from voxkit.models.contract import Encoded
from voxkit.rate import RATE


@dataclass
class Decoded:
    """A decoded set: references and hypotheses by id, seconds of computing and of audio, what could not be read (id → reason).

    Attributes:
        changes: of a streamed set, id → (seconds of audio heard, text) each time that the text changed; the last is the final one.
    """

    references: dict[str, str] = field(default_factory=dict)
    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    elapsed: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    changes: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """id → what was recognized."""
        return {id: h.text for id, h in self.hypotheses.items()}

    @property
    def rtf(self) -> float:
        """Real-time factor: seconds of computing per second of audio, reading included."""
        return self.elapsed / max(self.seconds, 1e-9)


@dataclass
class EncodedBatch:
    """A batch of a set behind the encoder: ids and references of its utterances, what was encoded, seconds and MB that reading and encoding
    took."""

    ids: list[str]
    texts: list[str]
    encoded: Encoded
    elapsed: float
    memory: float


def encode_cuts(recognizer: Recognizer, cuts: Any, data: Any, name: str, failures: dict[str, str]) -> Iterator[EncodedBatch]:
    """Read and encode every cut, in batches (arguments and errors: `read_cuts`)."""
    for batch, elapsed in read_cuts(recognizer, cuts, data, name, failures):
        began = now(recognizer.device)
        encoded = recognizer.encode(batch)
        elapsed += now(recognizer.device) - began
        yield EncodedBatch(batch.ids, batch.texts or [""] * batch.size, encoded, elapsed, peak_memory(recognizer.device))


def read_cuts(recognizer: Recognizer, cuts: Any, data: Any, name: str, failures: dict[str, str]) -> Iterator[tuple[Batch, float]]:
    """Every cut, in batches, each with the seconds that reading it took; `reset_memory` is called before.

    Args:
        cuts: eager CutSet; data: the run's DataConfig (batch size, workers).
        name: of the set, for messages.
        failures: gathers what could not be read (id → reason).

    Raises:
        ValueError: there are no cuts, or none of the audio can be read.
    """
    if not len(cuts):
        raise ValueError(f"set {name} is empty: there is nothing to decode; prepare it anew or name another")
    loader = build_eval_loader(cuts, recognizer.vocabulary, data)
    batches, count = iter(loader), 0
    while True:
        reset_memory(recognizer.device)
        began = now(recognizer.device)
        batch = next(batches, None)
        if batch is None:
            break
        count += batch.size
        yield batch, now(recognizer.device) - began
    failures |= loader.failures
    if not count:
        some = "; ".join(f"{id}: {reason}" for id, reason in list(failures.items())[:3])
        raise ValueError(f"set {name}: none of its {len(cuts)} utterances could be read ({some})")


def decode_by_searches(recognizer: Recognizer, cuts: Any, searches: Sequence[SearchOptions], data: Any, name: str = "set") -> list[Decoded]:
    """Decode every cut, in batches, by several searches, each over what the encoder gives once (arguments and errors: `encode_cuts`).

    Reading and encoding count in every search's time, and in its memory: as much as if it had been the only one.

    Returns:
        One for each search, in their order.
    """
    failures: dict[str, str] = {}
    out = [Decoded(failures=failures) for _ in searches]
    for batch in encode_cuts(recognizer, cuts, data, name, failures):
        for found, options in zip(out, searches):
            reset_memory(recognizer.device)
            began = now(recognizer.device)
            hypotheses = recognizer.search(batch.encoded, options)
            found.elapsed += batch.elapsed + now(recognizer.device) - began
            found.memory = max(found.memory, batch.memory, peak_memory(recognizer.device))
            for id, text, hypothesis in zip(batch.ids, batch.texts, hypotheses):
                found.references[id], found.hypotheses[id] = text, hypothesis
                found.seconds += hypothesis.audio_duration
    return out


def stream_by_searches(recognizer: Recognizer, cuts: Any, searches: Sequence[SearchOptions], data: Any, name: str = "set", *,
                       chunk_ms: float | None = None, left_ms: float | None = None) -> list[Decoded]:
    """Decode every cut as it would be spoken, one after the other, by several searches; each runs the encoder anew.

    Args:
        cuts, data, name: as of `encode_cuts`; chunk_ms, left_ms: as of `StreamingRecognizer`.

    Returns:
        One for each search, with `changes`.

    Raises:
        ValueError: as `encode_cuts`; or cuts without audio.
    """
    if not all(cut.has_recording for cut in cuts):
        raise ValueError(f"set {name} holds features, and --stream takes audio; decode it without")
    failures: dict[str, str] = {}
    out = [Decoded(failures=failures) for _ in searches]
    streams = [StreamingRecognizer(recognizer, options, chunk_ms=chunk_ms, left_ms=left_ms) for options in searches]
    for batch, elapsed in read_cuts(recognizer, cuts, replace(data, input="audio", max_utterances=1), name, failures):
        assert batch.audio is not None and batch.size == 1
        id, audio = batch.ids[0], batch.audio.values[0, :int(batch.audio.lengths[0])]
        for found, stream in zip(out, streams):
            began = now(recognizer.device)
            heard = list(stream_recording(stream, audio))
            found.elapsed += elapsed + now(recognizer.device) - began
            found.memory = max(found.memory, peak_memory(recognizer.device))
            found.references[id], found.hypotheses[id] = (batch.texts or [""])[0], heard[-1][1]
            found.seconds += stream.seconds
            found.changes[id] = [(seconds, hypothesis.text) for seconds, hypothesis, _ in heard]
    return out


@dataclass
class Latency:
    """Milliseconds, medians over utterances decoded one at a time.

    Attributes:
        first: from the beginning of the first word until a word can be shown, where the audio arrives in chunks as it is spoken and
            the recognizer runs on all of it at every chunk.
        end: from the end of the audio to the final hypothesis; end_95: its 95th percentile.
    """

    first: float
    end: float
    end_95: float


def measure_latency(recognizer: Recognizer, waves: Iterable[Tensor], options: SearchOptions, chunk: float = 0.32) -> Latency | None:
    """Time single utterances; None where there are none.

    Args:
        waves: [S] at 16 kHz each; the first is also used to warm up.
        chunk: seconds of audio that arrive at a time.
    """
    first, end = [], []
    size = round(chunk * RATE)
    for number, wave in enumerate(waves):
        if not number:
            _timed(recognizer, wave, options)
        taken, whole = _timed(recognizer, wave, options)
        end.append(taken)
        onset = _onset(recognizer, wave, options) if whole.text else None
        for stop in range(size, len(wave) + size, size) if onset is not None else ():
            stop = min(stop, len(wave))
            taken, partial = _timed(recognizer, wave[:stop], options)
            if partial.text or stop == len(wave):
                first.append(max(0.0, stop / RATE - onset) + taken)
                break
    if not end:
        return None
    ordered = sorted(end)
    return Latency(1000 * median(first) if first else float("nan"), 1000 * median(end), 1000 * ordered[ceil(0.95 * (len(ordered) - 1))])


def _timed(recognizer: Recognizer, wave: Tensor, options: SearchOptions) -> tuple[float, Hypothesis]:
    began = time.perf_counter()
    hypothesis = recognizer.recognize(audio_batch(wave, "latency"), options)[0]
    return time.perf_counter() - began, hypothesis


def _onset(recognizer: Recognizer, wave: Tensor, options: SearchOptions) -> float | None:
    """When the first word begins, in seconds."""
    from dataclasses import replace

    words = _timed(recognizer, wave, replace(options, words=True))[1].words
    return words[0].start if words else None


def now(device: torch.device) -> float:
    """Seconds on a clock, read when the device has done all that it was given: a GPU is still encoding when the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew, where the system allows it (Linux, CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path(f"/proc/{os.getpid()}/clear_refs").write_text("5")
    except OSError:
        pass  # then the peak is that of the whole process


def peak_memory(device: torch.device) -> float:
    """MB at most since `reset_memory`: of the process, on a GPU of torch there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        status = Path(f"/proc/{os.getpid()}/status").read_text()
        return next(float(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def model_size(model: Any) -> float:
    """MB of a model's weights and buffers in memory, a frozen encoder's included."""
    return sum(x.numel() * x.element_size() for x in {id(p): p for p in [*model.parameters(), *model.buffers()]}.values()) / 1e6
