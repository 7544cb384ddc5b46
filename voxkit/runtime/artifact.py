"""An artifact: the directory that `voxkit export` writes and that describes itself. It is read here, its encoder is run.

    meta.json       what it is and how it was tested        config.yaml    of the checkpoint it was made from
    encoder.onnx    and the graphs of its heads             tokenizer.*    its vocabulary
    README.md       the model card                          calibration.json  where the checkpoint had one
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from voxkit.rate import RATE
from voxkit.runtime.checks import check_samples
from voxkit.runtime.fbank import FRAMES_PER_SECOND, Fbank
from voxkit.runtime.session import open_session
from voxkit.text.vocabulary import Vocabulary, load_vocabulary

FORMAT = 2
_PADDING = math.log(1e-10)  # of features past an utterance's end
_NEEDED = ("format", "system", "input", "graphs", "vocab_size", "seconds_per_frame", "least_input", "longest_input")


class Encoded(NamedTuple):
    """Of one utterance: states [T', D], log_probs [T', V] of CTC or None where there is no such head, seconds of audio, frames of it: T',
    but where a decoder wants the states of the padding too."""

    states: np.ndarray
    log_probs: np.ndarray | None
    seconds: float
    frames: int


class Artifact:
    """The files of a directory; graphs are opened when they are first used.

    Args:
        folder: what `voxkit export` wrote.
        threads: of onnxruntime; 0 = all cores.
        device: `cpu`, `cuda` or `tensorrt`.

    Raises:
        ValueError: no artifact there, one of another format, or files that are not of one export.
    """

    def __init__(self, folder: str | os.PathLike, *, threads: int = 0, device: str = "cpu") -> None:
        self.folder, self.threads, self.device = Path(folder), threads, device
        self.meta = read_meta(folder)
        self.vocabulary: Vocabulary = load_vocabulary(self.folder)
        if self.vocabulary.size != self.meta["vocab_size"]:
            raise ValueError(f"{self.folder}: the vocabulary has {self.vocabulary.size} tokens and the model "
                             f"{self.meta['vocab_size']}: files of two exports?")
        self.fbank = Fbank(**self.meta["fbank"]) if self.meta["input"] == "features" else None
        self._sessions: dict[str, Any] = {}

    @property
    def seconds_per_frame(self) -> float:
        """Of the encoder's output."""
        return float(self.meta["seconds_per_frame"])

    @property
    def streaming(self) -> dict[str, Any] | None:
        """What a streaming artifact says of its chunks; None where it takes whole utterances."""
        return self.meta.get("streaming")

    @property
    def longest_seconds(self) -> float:
        """Of audio that the encoder takes at once."""
        return self.meta["longest_input"] / (RATE if self.fbank is None else FRAMES_PER_SECOND)

    def session(self, graph: str) -> Any:
        """The onnxruntime session of one of its graphs.

        Raises:
            ValueError: it has no such graph.
        """
        if graph not in self._sessions:
            if graph not in self.meta["graphs"]:
                raise ValueError(f"{self.folder} has no graph {graph!r}; it has {', '.join(self.meta['graphs'])}")
            self._sessions[graph] = open_session(self.folder / self.meta["graphs"][graph], self.threads, self.device)
        return self._sessions[graph]

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """What was fitted on a dev set for the checkpoint: temperatures by method, word timing; empty where nothing was."""
        path = self.folder / "calibration.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def encode(self, audios: Sequence[np.ndarray], names: Sequence[str] | None = None) -> list[Encoded]:
        """Waveforms [S] float32 at 16 kHz, as one batch.

        Raises:
            ValueError: a streaming artifact; audio that is empty, no waveform, or longer than the model takes.
        """
        if self.streaming is not None:
            raise ValueError(f"{self.folder} takes audio as it comes, in chunks; use StreamingRecognizer or `voxkit transcribe --stream`")
        names = names or [f"audio {i}" for i in range(len(audios))]
        audios = [check_samples(audio, name) for audio, name in zip(audios, names, strict=True)]
        values = audios if self.fbank is None else [self.fbank(audio) for audio in audios]
        for name, audio, value in zip(names, audios, values):
            if not len(audio):
                raise ValueError(f"{name}: holds no samples")
            if len(value) > self.meta["longest_input"]:
                raise ValueError(f"{name}: {len(audio) / RATE:.1f} s, and the model takes at most {self.longest_seconds:.0f} s at once")
        if not values:
            return []
        width = max(self.meta["least_input"], *map(len, values))
        padding = 0.0 if self.fbank is None else _PADDING
        batch = np.full((len(values), width, *values[0].shape[1:]), padding, dtype=np.float32)
        for row, value in zip(batch, values):
            row[:len(value)] = value
        session = self.session("encoder")
        wanted = [output.name for output in session.get_outputs()]
        found = dict(zip(wanted, session.run(wanted, {self.meta["input"]: batch, "lengths": np.array([len(v) for v in values])})))
        scores = found.get("log_probs")
        whole = self.meta.get("prompted", {}).get("whole", False)
        return [Encoded(found["states"][i] if whole else found["states"][i, :n], None if scores is None else scores[i, :n],
                        len(audio) / RATE, n)
                for i, (n, audio) in enumerate(zip(found["frames"].tolist(), audios))]


def is_artifact(folder: str | os.PathLike) -> bool:
    """Whether a directory is one: it has a meta.json that lists graphs. A checkpoint has another."""
    try:
        return "graphs" in json.loads((Path(folder) / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def read_meta(folder: str | os.PathLike) -> dict[str, Any]:
    """meta.json of an artifact.

    Raises:
        ValueError: none there, one of something else, or of another format.
    """
    path = Path(folder) / "meta.json"
    if not path.is_file():
        raise ValueError(f"no artifact in {folder}: it has no meta.json; make one with `voxkit export CHECKPOINT --out {folder}`")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in _NEEDED if key not in meta]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if missing:
        raise ValueError(f"{path} is not of an artifact: it lacks {', '.join(missing)}; make one with `voxkit export`")
    if meta["format"] != FORMAT:
        raise ValueError(f"{path}: format {meta['format']}, and this voxkit reads {FORMAT}: export the checkpoint again")
    return meta
