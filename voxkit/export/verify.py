"""Do all ways of running a model say the same? Utterances through torch, the runtime and sherpa-onnx, text by text.

Whole utterances: torch, artifacts, sherpa-onnx's offline models. Streams, for each chunk size: torch offline, masked by that chunk; torch
chunk by chunk; the runtime's streams; sherpa-onnx's online models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from voxkit.checkpoint.loading import Loaded
from voxkit.eval.wer import WerResult, score
from voxkit.export.graphs import prepared
from voxkit.export.parity import ENOUGH_WORDS, CheckUtterance
from voxkit.export.sherpa import tokens_file
from voxkit.export.sherpa_model import SherpaModel, is_sherpa
from voxkit.files import read_text
from voxkit.infer.chunks import Chunk
from voxkit.infer.recognizer import Recognizer
from voxkit.infer.streaming import StreamingRecognizer as TorchStreaming
from voxkit.infer.streaming import stream_recording
from voxkit.models.contract import Listener
from voxkit.rate import RATE
from voxkit.runtime.artifact import Artifact
from voxkit.runtime.recognizer import OnnxRecognizer, SearchOptions
from voxkit.runtime.streaming import StreamingRecognizer
from voxkit.search.options import SearchOptions as TorchSearch

Listen = Callable[[np.ndarray], str]


@dataclass(frozen=True)
class Engine:
    """A way of running the model. `exact`: its text must be the first engine's; else its word error rate may rise a little."""

    name: str
    listen: Listen
    exact: bool = True


@dataclass
class Heard:
    """What an engine made of all utterances: texts by id, seconds it took by the clock and of the processor, word error rate or None
    without references."""

    engine: Engine
    texts: dict[str, str]
    seconds: float
    processor: float
    wer: WerResult | None


@dataclass
class Comparison:
    """Engines that must agree.

    Attributes:
        title: what they do. heard: of each, the first is what the others are compared with. seconds: of audio.
        problems: why they do not agree; empty: they do.
        unjudged: engines held to their word error rate, which takes transcripts, where there are none.
    """

    title: str
    heard: list[Heard]
    seconds: float
    problems: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)

    def rows(self) -> list[dict[str, object]]:
        """For voxkit.eval.table: an engine a line."""
        first, count = self.heard[0].texts, len(self.heard[0].texts)
        return [{"engine": heard.engine.name, "texts": count,
                 "equal": "" if heard is self.heard[0] else count - len(differing(first, heard)),
                 "WER": "" if heard.wer is None else _shown(heard.wer), "RTF": f"{heard.seconds / self.seconds:.4f}",
                 "of the processor": f"{heard.processor / self.seconds:.4f}"}
                for heard in self.heard]


def verify(loaded: Loaded, folders: Sequence[Path], utterances: Sequence[CheckUtterance], *, method: str = "greedy", threads: int = 1,
           max_wer_increase: float = 0.005) -> list[Comparison]:
    """Compare a checkpoint with what was exported of it.

    Args:
        loaded: on the CPU; its model is left in float32.
        folders: artifacts, and exports for sherpa-onnx.
        utterances: what is heard.
        method: greedy, or another that all of them know. A transducer of sherpa-onnx is compared with torch's transducer_greedy: where
            the model has CTC too, greedy is CTC's.
        threads: of every engine.
        max_wer_increase: of exports in fp16 and int8, absolute.

    Raises:
        ValueError: a folder that is no export or of another vocabulary, a method that sherpa-onnx has not, longer utterances than a model
            takes; MissingPackage.
    """
    model = prepared(loaded.model)
    torch_side = Recognizer(cast(Listener, model), loaded.vocabulary)
    whole: dict[str, list[Engine]] = {}  # by the method
    streams: dict[tuple[float, float, str], list[Engine]] = {}
    sherpa = False
    for folder in map(Path, folders):
        if is_sherpa(folder):
            _check_vocabulary(folder, read_text(folder / "tokens.txt") == tokens_file(loaded.vocabulary))
            found = SherpaModel(folder, threads)
            if method not in ("greedy", found.method):
                raise ValueError(f"--method {method}: sherpa-onnx searches {folder} by {found.method}; leave --method out")
            sherpa = sherpa or found.streams
            how = found.method
            place = streams.setdefault((*found.milliseconds(model), how), []) if found.streams else whole.setdefault(how, [])
            place.append(Engine(f"sherpa-onnx {found.precision}, {folder.name}", found.listen, found.precision == "fp32"))
            continue
        artifact = Artifact(folder, threads=threads)
        _check_vocabulary(folder, artifact.vocabulary.fingerprint() == loaded.vocabulary.fingerprint())
        name, exact = f"runtime {artifact.meta['precision']}, {folder.name}", artifact.meta["precision"] == "fp32"
        if artifact.streaming is None:
            whole.setdefault(method, []).append(Engine(name, _whole(OnnxRecognizer(artifact), method), exact))
        else:
            place = streams.setdefault((artifact.streaming["chunk_ms"], artifact.streaming["left_ms"], method), [])
            place.append(Engine(name, _stream(StreamingRecognizer(artifact, SearchOptions(method))), exact))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = []
        for how, engines in whole.items():
            title = "whole utterances" + ("" if how == "greedy" else f", {how}")
            out.append(_compare(title, [Engine("torch", _torch(torch_side, how)), *engines], utterances, max_wer_increase))
        for (chunk_ms, left_ms, how), engines in sorted(streams.items()):
            out.append(_compare_streams(torch_side, how, chunk_ms, left_ms, engines, utterances, max_wer_increase, sherpa))
        return out
    finally:
        torch.set_num_threads(before)


def differing(first: dict[str, str], heard: Heard) -> list[str]:
    """Utterances of which an engine says something else than the first."""
    return [id for id, text in heard.texts.items() if text != first[id]]


def _check_vocabulary(folder: Path, same: bool) -> None:
    if not same:
        raise ValueError(f"{folder} has another vocabulary than the checkpoint: it was exported of another model; export this one anew")


def _compare_streams(recognizer: Recognizer, method: str, chunk_ms: float, left_ms: float, engines: list[Engine],
                     utterances: Sequence[CheckUtterance], max_wer_increase: float, sherpa: bool) -> Comparison:
    encoder: Any = recognizer.model.encoder
    before = encoder.chunk, encoder.left_context
    try:
        stream = TorchStreaming(recognizer, TorchSearch(method), chunk_ms=chunk_ms, left_ms=left_ms)
        title = f"streams, chunks of {chunk_ms:g} ms, {left_ms:g} ms before them" + ("" if method == "greedy" else f", {method}")
        if sherpa:  # it leaves out a last chunk that is not whole: everybody hears so much silence behind the utterance
            silence = np.zeros(int((chunk_ms / 1000 + 0.2) * RATE), np.float32)
            utterances = [CheckUtterance(u.id, np.concatenate([u.audio, silence]), u.text) for u in utterances]
            title += f", {len(silence) / RATE:.2f} s of silence behind"
        engines = [Engine("torch offline, same chunk", _masked(recognizer, method, stream.chunk)),
                   Engine("torch streaming", _torch_stream(stream)), *engines]
        return _compare(title, engines, utterances, max_wer_increase)
    finally:
        encoder.set_chunk(*before)


def _compare(title: str, engines: Sequence[Engine], utterances: Sequence[CheckUtterance], max_wer_increase: float) -> Comparison:
    references = {u.id: u.text for u in utterances if u.text.strip()}
    found = []
    for engine in engines:
        engine.listen(utterances[0].audio)  # the first run allocates
        began, spent = time.perf_counter(), time.process_time()
        texts = {u.id: " ".join(engine.listen(u.audio).split()) for u in utterances}
        seconds, processor = time.perf_counter() - began, time.process_time() - spent
        wer = score(references, {id: texts[id] for id in references}) if references else None
        found.append(Heard(engine, texts, seconds, processor, wer))
    out = Comparison(title, found, sum(len(u.audio) for u in utterances) / RATE)
    first = found[0]
    for heard in found[1:]:
        others = differing(first.texts, heard)
        if heard.engine.exact:
            if others:
                out.problems.append(f"{heard.engine.name}: {len(others)} of {len(utterances)} texts are others than those of "
                                    f"{first.engine.name}: {', '.join(others[:3])}")
        elif heard.wer is None or first.wer is None:
            out.unjudged.append(heard.engine.name)
        elif heard.wer.rate - first.wer.rate > max_wer_increase:
            out.problems.append(f"{heard.engine.name}: WER {_shown(heard.wer)} against {_shown(first.wer)}, above --max-wer-increase "
                                f"{100 * max_wer_increase:g} %{_few(heard.wer)}")
    return out


def _few(wer: WerResult) -> str:
    return f" ({wer.words} words; {ENOUGH_WORDS} would tell more)" if wer.words < ENOUGH_WORDS else ""


def _shown(wer: WerResult) -> str:
    between = wer.interval(samples=2000)
    return f"{100 * wer.rate:.2f}" + ("" if between is None else f" ({100 * between[0]:.2f}-{100 * between[1]:.2f})")


def _torch(recognizer: Recognizer, method: str) -> Listen:
    return lambda audio: recognizer.transcribe(torch.from_numpy(audio), TorchSearch(method)).text


def _masked(recognizer: Recognizer, method: str, chunk: Chunk) -> Listen:
    def listen(audio: np.ndarray) -> str:
        chunk.set(recognizer.model)
        return recognizer.transcribe(torch.from_numpy(audio), TorchSearch(method)).text

    return listen


def _torch_stream(stream: TorchStreaming) -> Listen:
    return lambda audio: list(stream_recording(stream, torch.from_numpy(audio)))[-1][1].text


def _whole(recognizer: OnnxRecognizer, method: str) -> Listen:
    return lambda audio: recognizer.recognize([audio], SearchOptions(method))[0].text


def _stream(recognizer: StreamingRecognizer) -> Listen:
    def listen(audio: np.ndarray) -> str:
        session = recognizer.session(endpointing=None)
        return (session.accept(audio) + session.finalize())[-1].hypothesis.text

    return listen
