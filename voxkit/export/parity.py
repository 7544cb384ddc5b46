"""The gate of an export: on real utterances the graph must give the scores and the text of the model it was made from."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxkit.eval.wer import score
from voxkit.export.graph import CtcGraph
from voxkit.runtime.greedy import ctc_greedy as numpy_greedy
from voxkit.runtime.onnx import OnnxRecognizer
from voxkit.search.greedy import ctc_greedy
from voxkit.text.vocabulary import Vocabulary


@dataclass
class Utterance:
    """What the gate listens to: [S] float32 at 16 kHz, and what is said (empty = unknown)."""

    id: str
    audio: np.ndarray
    text: str = ""


@dataclass
class GateOptions:
    """Attributes:
    tolerance: largest difference of a float32 graph's log-probabilities (nats) from the model's, on valid frames.
    max_wer_increase: of INT8 over float32, absolute (0.01 = one word in a hundred).
    threads: of torch and of onnxruntime, for comparable speeds.
    """

    tolerance: float = 1e-3
    max_wer_increase: float = 0.01
    threads: int = 1

    def problems(self) -> list[str]:
        """Sentences naming the option."""
        found = [f"{name}: {getattr(self, name)} is below 0" for name in ("tolerance", "max_wer_increase") if getattr(self, name) < 0]
        return found + ([f"threads: {self.threads}; at least 1"] if self.threads < 1 else [])


@dataclass
class Answer:
    """What one model said of all utterances."""

    scores: list[np.ndarray] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    rtf: list[float] = field(default_factory=list)


@dataclass
class Verdict:
    """How one file fared.

    Attributes:
        max_difference: of log-probabilities on valid frames, from the model's; batch_difference: the same for a padded batch.
        different_texts: utterances with another transcript than the model's.
        wer: against the transcripts; None where there are none. rtf: median; speedup: median over utterances of torch's time by its own.
        problems: why it fails the gate; empty = it passes.
    """

    name: str
    megabytes: float
    max_difference: float
    batch_difference: float
    different_texts: list[str]
    wer: float | None
    rtf: float
    speedup: float
    problems: list[str] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """Of the table."""
        return {"model": self.name, "MB": f"{self.megabytes:.1f}", "score diff.": f"{self.max_difference:.1e}",
                "other texts": len(self.different_texts), "WER": "" if self.wer is None else f"{100 * self.wer:.2f}",
                "RTF": f"{self.rtf:.4f}", "speed-up": f"{self.speedup:.2f}", "gate": "FAILED" if self.problems else "passed"}


@dataclass
class GateReport:
    """The model it was made from as first row, then a verdict per file."""

    torch_row: dict[str, object]
    verdicts: dict[str, Verdict]
    utterances: int
    seconds: float
    threads: int

    @property
    def problems(self) -> list[str]:
        """Of all files; empty = the gate is passed."""
        return [f"{name}: {problem}" for name, verdict in self.verdicts.items() for problem in verdict.problems]

    def rows(self) -> list[dict[str, object]]:
        """For voxkit.eval.table."""
        return [self.torch_row, *(verdict.row() for verdict in self.verdicts.values())]


def check_parity(graph: CtcGraph, folder: Path, names: Sequence[str], tokenizer: Vocabulary, utterances: Sequence[Utterance],
                 options: GateOptions | None = None) -> GateReport:
    """Compare the exported files with the model.

    Args:
        graph: what `export_onnx` returned.
        folder: an export directory; names: of the files in it, `model.onnx` first.
        utterances: real speech; every file hears each of them alone, and a few as a batch.

    Raises:
        ValueError: no utterances, or options out of range.
    """
    options = options or GateOptions()
    if options.problems():
        raise ValueError("; ".join(options.problems()))
    if not utterances:
        raise ValueError("the parity gate needs at least one utterance")
    recognizers = {name: OnnxRecognizer(folder, int8=name == "model.int8.onnx", threads=options.threads) for name in names}
    with _threads(options.threads):
        answers = _listen({"torch": _torch_scores(graph), **{n: _onnx_scores(r) for n, r in recognizers.items()}}, tokenizer, utterances)
    model = answers["torch"]
    references = {u.id: u.text for u in utterances if u.text}
    wers = {n: score(references, {i: a.texts[i] for i in references}).rate if references else None for n, a in answers.items()}
    verdicts = {}
    for name, recognizer in recognizers.items():
        answer = answers[name]
        verdicts[name] = verdict = Verdict(
            name, (folder / name).stat().st_size / 1e6, _difference(answer.scores, model.scores), _batched(graph, recognizer, utterances),
            [i for i in model.texts if model.texts[i] != answer.texts[i]], wers[name], statistics.median(answer.rtf),
            statistics.median(t / o for t, o in zip(model.rtf, answer.rtf)))
        if name == "model.int8.onnx":
            verdict.problems += _int8_problems(verdict, wers["torch"], options)
        else:
            verdict.problems += _float_problems(verdict, options)
    size = sum(p.numel() for p in _exported_parameters(graph)) * 4 / 1e6
    torch_row: dict[str, object] = {
        "model": "torch", "MB": f"{size:.1f}", "score diff.": "", "other texts": "",
        "WER": "" if wers["torch"] is None else f"{100 * wers['torch']:.2f}", "RTF": f"{statistics.median(model.rtf):.4f}",
        "speed-up": "1.00", "gate": ""}
    return GateReport(torch_row, verdicts, len(utterances), sum(len(u.audio) for u in utterances) / 16000, options.threads)


def noise(count: int = 4) -> list[Utterance]:
    """Stand-ins where there is no check set: the same noise each time, of several lengths, no transcripts."""
    generator = np.random.default_rng(0)
    sizes = [16000 * (1 + 2 * i) + 37 * i for i in range(count)]
    return [Utterance(f"noise-{size}", (0.1 * generator.standard_normal(size)).astype(np.float32)) for size in sizes]


def _listen(models: dict[str, Callable[[np.ndarray], np.ndarray]], tokenizer: Vocabulary,
            utterances: Sequence[Utterance]) -> dict[str, Answer]:
    """Every utterance by every model in turn, so that a busy machine is equally busy for all."""
    for run in models.values():
        run(utterances[0].audio)  # the first run allocates
    answers = {name: Answer() for name in models}
    for utterance in utterances:
        for name, run in models.items():
            began = time.perf_counter()
            scores = run(utterance.audio)
            elapsed = time.perf_counter() - began
            tokens = (ctc_greedy(torch.from_numpy(scores)[None], torch.tensor([len(scores)]))[0].tokens if name == "torch"
                      else numpy_greedy(scores).tokens)
            answers[name].scores.append(scores)
            answers[name].texts[utterance.id] = tokenizer.decode(tokens)
            answers[name].rtf.append(16000 * elapsed / len(utterance.audio))
    return answers


def _torch_scores(graph: CtcGraph) -> Callable[[np.ndarray], np.ndarray]:
    def run(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            scores, frames = graph(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
        return scores[0, :int(frames)].numpy()

    return run


def _onnx_scores(recognizer: OnnxRecognizer) -> Callable[[np.ndarray], np.ndarray]:
    return lambda audio: recognizer.log_probs([audio])[0]


def _batched(graph: CtcGraph, recognizer: OnnxRecognizer, utterances: Sequence[Utterance], size: int = 4) -> float:
    """How far the scores of a batch, padded to the longest, are from the model's for the same batch."""
    audios = [torch.from_numpy(u.audio) for u in utterances[:size]]
    with torch.inference_mode():
        scores, frames = graph(torch.nn.utils.rnn.pad_sequence(audios, batch_first=True), torch.tensor([len(a) for a in audios]))
    return _difference(recognizer.log_probs([a.numpy() for a in audios]), [s[:n].numpy() for s, n in zip(scores, frames)])


def _difference(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """The largest between log-probabilities [T', V] of the same utterances; infinite where they have not as many frames, or are NaN."""
    largest = 0.0
    for one, other in zip(ones, others):
        if one.shape != other.shape:
            return float("inf")
        distance = float(np.abs(one - other).max(initial=0.0))
        largest = max(largest, distance if distance == distance else float("inf"))
    return largest


def _float_problems(verdict: Verdict, options: GateOptions) -> list[str]:
    found = []
    for what, value in (("", verdict.max_difference), (" of a batch", verdict.batch_difference)):
        if value > options.tolerance:
            found.append(f"scores{what} differ by {value:.2e}, above --tolerance {options.tolerance:g}")
    if verdict.different_texts:
        few = ", ".join(verdict.different_texts[:3])
        found.append(f"{len(verdict.different_texts)} utterances have another text: {few}")
    return found


def _int8_problems(verdict: Verdict, wer: float | None, options: GateOptions) -> list[str]:
    if verdict.max_difference == float("inf"):
        return ["scores are NaN, or of another number of frames"]
    if wer is None or verdict.wer is None or verdict.wer - wer <= options.max_wer_increase:
        return []
    return [f"WER {100 * verdict.wer:.2f} % against {100 * wer:.2f} %, above --max-wer-increase {100 * options.max_wer_increase:g} %"]


def _exported_parameters(graph: CtcGraph) -> Iterator[Any]:
    return (p for name, p in graph.model.named_parameters() if not name.startswith("decoder."))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
