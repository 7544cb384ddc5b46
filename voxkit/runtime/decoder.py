"""An exported attention decoder: prompt, steps of a beam, and scores of whole hypotheses, all by one graph (voxkit/export/decoder.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass
class DecoderState:
    """What the decoder knows of W hypotheses of each of B utterances.

    Attributes:
        cross: keys and values of the encoder's states [L, 2, B, H, T, d]; frames: [B] of these.
        past: those of the tokens so far [L, 2, B, W, H, U, d].
        attention: [B, W, P, T], where the last P tokens looked.
    """

    cross: np.ndarray
    frames: np.ndarray
    past: np.ndarray
    attention: np.ndarray | None = None

    @property
    def position(self) -> int:
        """Tokens so far."""
        return self.past.shape[5]


class OnnxDecoder:
    """The graphs `memory` and `decoder`.

    Args:
        memory, decoder: onnxruntime sessions.
    """

    def __init__(self, memory: Any, decoder: Any) -> None:
        self.memory, self.decoder = memory, decoder

    def init_state(self, states: np.ndarray, frames: np.ndarray) -> DecoderState:
        """Encoder states [B, T, D], frames [B] → before the first token, one hypothesis for each utterance."""
        (cross,) = self.memory.run(["cross"], {"states": states})
        layers, _, size, heads, _, depth = cross.shape
        return DecoderState(cross, frames, np.zeros((layers, 2, size, 1, heads, 0, depth), np.float32))

    def step(self, tokens: np.ndarray, state: DecoderState, parents: np.ndarray | None = None) -> tuple[np.ndarray, DecoderState]:
        """The next tokens [B, W, P] of every hypothesis → log-probabilities of what follows each [B, W, P, V], and the state after them.

        Args:
            parents: [B, W] which hypothesis of the state each continues; None: in order.
        """
        if parents is None:
            parents = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape[:2])
        log_probs, past, attention = self.decoder.run(["log_probs", "next_past", "attention"], {
            "tokens": np.ascontiguousarray(tokens), "parents": np.ascontiguousarray(parents), "past": state.past, "cross": state.cross,
            "frames": state.frames})
        return log_probs, replace(state, past=past, attention=attention)

    def score(self, states: np.ndarray, frames: np.ndarray, hypotheses: list[list[list[int]]], bos: int, eos: int) -> list[list[float]]:
        """Log-probability of whole hypotheses, eos included: of each utterance a list of token lists → a number for each."""
        width = max(map(len, hypotheses))
        longest = 1 + max((len(tokens) for row in hypotheses for tokens in row), default=0)
        given = np.full((len(hypotheses), width, longest), eos, dtype=np.int64)
        given[:, :, 0] = bos
        for row, lists in zip(given, hypotheses):
            for place, tokens in zip(row, lists):
                place[1:1 + len(tokens)] = tokens
        log_probs, _ = self.step(given, self.init_state(states, frames), np.zeros(given.shape[:2], dtype=np.int64))
        out = []
        for row, lists in zip(log_probs, hypotheses):
            out.append([float(sum(scores[i, t] for i, t in enumerate([*tokens, eos]))) for scores, tokens in zip(row, lists)])
        return out
