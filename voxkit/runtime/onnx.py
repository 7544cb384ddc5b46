"""Recognition from an export directory with onnxruntime, numpy, sentencepiece and soundfile: no torch.

    recognizer = OnnxRecognizer("exp/onnx")
    print(recognizer.transcribe("order.wav").text)
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from voxkit.hypothesis import Hypothesis, Word
from voxkit.optional import require
from voxkit.runtime.audio import RATE, read_audio
from voxkit.runtime.greedy import Path as GreedyPath
from voxkit.runtime.greedy import ctc_greedy
from voxkit.text.vocabulary import load_vocabulary


class OnnxRecognizer:
    """An exported CTC model, its tokenizer, and greedy search.

    Args:
        folder: what `voxkit export` wrote.
        int8: the quantised model instead of the float32 one.
        threads: of onnxruntime; 0 = all cores.
        device: `cpu` or `cuda`.

    Raises:
        ValueError: no export there, or no such model in it; MissingPackage: onnxruntime is not installed.
    """

    def __init__(self, folder: str | os.PathLike, *, int8: bool = False, threads: int = 0, device: str = "cpu") -> None:
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        name = "model.int8.onnx" if int8 else "model.onnx"
        if not (self.folder / name).is_file():
            raise ValueError(f"no {name} in {self.folder}" + ("; export it with: voxkit export CHECKPOINT --int8" if int8 else ""))
        self.session = open_session(self.folder / name, threads, device)
        self.vocabulary = load_vocabulary(self.folder)
        if self.vocabulary.size != self.meta["vocab_size"]:
            raise ValueError(f"{self.folder}: the tokenizer has {self.vocabulary.size} pieces and the model "
                             f"{self.meta['vocab_size']}: files of two exports?")
        if self.vocabulary.blank is None:
            raise ValueError(f"{self.folder}: its vocabulary has no blank, and the exported graph is of a CTC head: files of two exports?")
        self._blank = self.vocabulary.blank

    @property
    def seconds_per_frame(self) -> float:
        """Of the graph's output."""
        return float(self.meta["seconds_per_frame"])

    def transcribe(self, audio: str | os.PathLike | np.ndarray) -> Hypothesis:
        """One file, or one waveform [S] float32 at 16 kHz."""
        name = "audio" if isinstance(audio, np.ndarray) else str(audio)
        return self.recognize([audio if isinstance(audio, np.ndarray) else read_audio(audio)], [name])[0]

    def recognize(self, audios: Sequence[np.ndarray], names: Sequence[str] | None = None) -> list[Hypothesis]:
        """Waveforms [S] float32 at 16 kHz, as one batch → their hypotheses, in order."""
        return [self._hypothesis(log_probs, len(audio) / RATE) for log_probs, audio in zip(self.log_probs(audios, names), audios)]

    def log_probs(self, audios: Sequence[np.ndarray], names: Sequence[str] | None = None) -> list[np.ndarray]:
        """CTC log-probabilities of each waveform: [T', V] float32, without padding.

        Raises:
            ValueError: one is empty, longer than the model takes, or not one channel of float samples.
        """
        names = names or [f"audio {i}" for i in range(len(audios))]
        for name, audio in zip(names, audios):
            self._check(name, audio)
        lengths = np.array([len(audio) for audio in audios], dtype=np.int64)
        batch = np.zeros((len(audios), max(int(lengths.max()), self.meta["min_samples"])), dtype=np.float32)
        for row, audio in zip(batch, audios):
            row[:len(audio)] = audio
        scores, frames = self.session.run(["log_probs", "frames"], {"audio": batch, "lengths": lengths})
        return [row[:count] for row, count in zip(scores, frames)]

    def _check(self, name: str, audio: np.ndarray) -> None:
        if audio.ndim != 1 or audio.dtype.kind != "f":
            raise ValueError(f"{name}: a waveform is [samples] of float, not {list(audio.shape)} of {audio.dtype}")
        if not len(audio):
            raise ValueError(f"{name}: holds no samples")
        if len(audio) > self.meta["max_samples"]:
            raise ValueError(f"{name}: {len(audio) / RATE:.1f} s, and the model takes at most {self.meta['max_samples'] / RATE:.0f} s; "
                             "cut it into pieces")

    def _hypothesis(self, log_probs: np.ndarray, duration: float) -> Hypothesis:
        found = ctc_greedy(log_probs, blank=self._blank)
        tokens = self.vocabulary.spoken(found.tokens)
        return Hypothesis(self.vocabulary.decode(tokens), self._words(found, duration), found.score, tokens, duration)

    def _words(self, found: GreedyPath, duration: float) -> list[Word]:
        """As voxkit.align.words makes them of a CTC alignment, which greedy search's best path is: a word's frames are those of its
        tokens, its confidence is the geometric mean of their peaks."""
        kept = [i for i, token in enumerate(found.tokens) if token not in self.vocabulary.specials]
        words, step = [], self.seconds_per_frame
        for word, places in self.vocabulary.words([found.tokens[i] for i in kept]):
            group = kept[places.start:places.stop]
            start, end = found.starts[group[0]] * step, found.ends[group[-1]] * step
            confidence = float(np.exp(np.mean([found.token_log_probs[i] for i in group])))
            words.append(Word(word, min(start, duration), min(end, duration), min(1.0, confidence)))
        return words


def read_meta(folder: str | os.PathLike) -> dict[str, Any]:
    """meta.json of an export directory.

    Raises:
        ValueError: none there, or one of something else.
    """
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise ValueError(f"no export in {folder}: it has no meta.json; make one with `voxkit export CHECKPOINT --out {folder}`")
    meta = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in ("vocab_size", "seconds_per_frame", "min_samples", "max_samples") if key not in meta]
    if missing:
        raise ValueError(f"{path} is not of an export: it lacks {', '.join(missing)}")
    return meta


def open_session(path: str | os.PathLike, threads: int = 0, device: str = "cpu") -> Any:
    """An onnxruntime session.

    Raises:
        ValueError: an unknown device, or one this onnxruntime was not built for; MissingPackage: no onnxruntime.
    """
    ort = require("onnxruntime", "export", why="running ONNX models")
    providers = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    if device not in providers:
        raise ValueError(f"device {device!r} is none of {', '.join(providers)}")
    if providers[device][0] not in ort.get_available_providers():
        raise ValueError(f"this onnxruntime has no {providers[device][0]}; install onnxruntime-gpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=providers[device])
