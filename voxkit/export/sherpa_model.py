"""Exports for sherpa-onnx, run by sherpa-onnx's own Python package: what says that they are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from voxkit.export.sherpa import MARK
from voxkit.files import read_text
from voxkit.optional import require
from voxkit.rate import RATE
from voxkit.runtime.session import open_session


def is_sherpa(folder: Path) -> bool:
    """Whether a directory is an export for sherpa-onnx."""
    return (folder / MARK).is_file()


class SherpaModel:
    """An export, of CTC or of a transducer, for whole utterances or streams; searched greedily.

    Args:
        folder: what `voxkit export --format sherpa-onnx` wrote. threads: of its onnxruntime.

    Attributes:
        streams: whether it takes chunks. precision: fp32 or int8; fp32 where an older voxkit did not note it.
        method: what its search is called in torch.

    Raises:
        MissingPackage: no sherpa-onnx.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        package = require("sherpa_onnx", "sherpa", why=f"running {folder}")
        ctc = (folder / "model.onnx").is_file()
        self.method = "greedy" if ctc else "transducer_greedy"
        self.precision = [*read_text(folder / MARK).split(), "fp32"][1]
        names = ("model",) if ctc else ("encoder", "decoder", "joiner")
        files = {name: str(folder / f"{name}.onnx") for name in names}
        self._about = open_session(files[names[0]], threads=1).get_modelmeta().custom_metadata_map
        self.streams = "decode_chunk_len" in self._about
        kind = package.OnlineRecognizer if self.streams else package.OfflineRecognizer
        made = kind.from_transducer if not ctc else kind.from_zipformer2_ctc if self.streams else kind.from_zipformer_ctc
        self._recognizer = made(tokens=str(folder / "tokens.txt"), num_threads=threads, **files)

    def milliseconds(self, model: Any) -> tuple[float, float]:
        """Of a chunk, and of what is seen before it, as `model` counts them."""
        frame = 1000 * model.front_end.seconds_per_frame
        left = int(self._about["left_context_len"].split(",")[0]) * model.encoder.config.downsampling_factor[0]
        return int(self._about["decode_chunk_len"]) / 2 * frame, left * frame

    def listen(self, audio: np.ndarray) -> str:
        """A waveform [S] float32 at 16 kHz → its text. A stream leaves out what the last chunk lacks."""
        recognizer = self._recognizer
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE, audio)
        if not self.streams:
            recognizer.decode_stream(stream)
            return str(stream.result.text)
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        return str(recognizer.get_result(stream))
