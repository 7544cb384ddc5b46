"""An exported attention decoder: prompt, steps of a beam, and scores of whole hypotheses, all by one graph (voxkit/export/decoder.py)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from voxkit.search.hallucination import StopRule


@dataclass
class DecoderState:
    """What the decoder knows of W hypotheses of each of B utterances.

    Attributes:
        cross: keys and values of the encoder's states, as `memory` calls them; frames: [B] of these.
        past: those of the tokens so far [L, 2, B, W, H, U, d].
        attention: [B, W, P, T], where the last P tokens looked.
    """

    cross: dict[str, np.ndarray]
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
        bos, eos: token ids.

    Raises:
        ValueError: graphs of an older voxkit.
    """

    def __init__(self, memory: Any, decoder: Any, bos: int = 1, eos: int = 2) -> None:
        if "value0" not in [output.name for output in memory.get_outputs()]:
            raise ValueError("the artifact's attention decoder was exported by an older voxkit: export the checkpoint again")
        self.memory, self.decoder, self.bos, self.eos = memory, decoder, bos, eos

    silence: int | None = None  # the token that says that nobody speaks

    def limit(self, frames: int) -> int:
        """How many tokens an utterance of so many frames may have."""
        return frames

    def quiet(self, states: np.ndarray, frames: int) -> float:
        """Probability that nobody speaks in one utterance with states [T, D]; 0 where there is no token for it."""
        return 0.0

    def init_state(self, states: np.ndarray, frames: np.ndarray) -> DecoderState:
        """Encoder states [B, T, D], frames [B] → before the first token, one hypothesis for each utterance."""
        names = [output.name for output in self.memory.get_outputs()]
        cross = dict(zip(names, self.memory.run(names, {"states": states})))
        size, heads, _, depth = cross["value0"].shape
        return DecoderState(cross, frames, np.zeros((len(names) // 2, 2, size, 1, heads, 0, depth), np.float32))

    def step(self, tokens: np.ndarray, state: DecoderState, parents: np.ndarray | None = None) -> tuple[np.ndarray, DecoderState]:
        """The next tokens [B, W, P] of every hypothesis → log-probabilities of what follows each [B, W, P, V], and the state after them.

        Args:
            parents: [B, W] which hypothesis of the state each continues; None: in order.
        """
        if parents is None:
            parents = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape[:2])
        log_probs, past, attention = self.decoder.run(["log_probs", "next_past", "attention"], {
            "tokens": np.ascontiguousarray(tokens), "parents": np.ascontiguousarray(parents), "past": state.past, "frames": state.frames,
            **state.cross})
        return log_probs, replace(state, past=past, attention=attention)

    @property
    def follows(self) -> bool:
        """Whether it can say where it looks while it says a text: its graph knows which heads follow the audio."""
        return any(output.name == "followed" for output in self.decoder.get_outputs())

    def follow(self, states: np.ndarray, frames: int, text: list[int]) -> tuple[np.ndarray, list[float], int]:
        """What it does while it says a text of one utterance, whose states [T, D] are audio in `frames`.

        Returns:
            weights [heads, P + U, T] of the heads that follow the audio, log-probabilities of the tokens, the row that predicts the first.
        """
        state = OnnxDecoder.init_state(self, states[None], np.array([frames]))
        prompt = self._prompts(state)[0].tolist()
        log_probs, followed = self.decoder.run(["log_probs", "followed"], {
            "tokens": np.array([[[*prompt, *text]]], dtype=np.int64), "parents": np.zeros((1, 1), np.int64), "past": state.past,
            "frames": state.frames, **state.cross})
        first = len(prompt) - 1
        said = log_probs[0, 0, first + np.arange(len(text)), text]
        return followed[0, 0, :, :, :frames].transpose(1, 0, 2), said.tolist(), first

    def _prompts(self, state: DecoderState) -> np.ndarray:
        """What each of B utterances begins with [B, P]."""
        return np.full((len(state.frames), 1), self.bos, dtype=np.int64)

    def score(self, states: np.ndarray, frames: np.ndarray, hypotheses: list[list[list[int]]]) -> list[list[float]]:
        """Log-probability of whole hypotheses, eos included: of each utterance a list of token lists → a number for each."""
        width = max(map(len, hypotheses))
        longest = 1 + max((len(tokens) for row in hypotheses for tokens in row), default=0)
        given = np.full((len(hypotheses), width, longest), self.eos, dtype=np.int64)
        given[:, :, 0] = self.bos
        for row, lists in zip(given, hypotheses):
            for place, tokens in zip(row, lists):
                place[1:1 + len(tokens)] = tokens
        log_probs, _ = self.step(given, self.init_state(states, frames), np.zeros(given.shape[:2], dtype=np.int64))
        out = []
        for row, lists in zip(log_probs, hypotheses):
            out.append([float(sum(scores[i, t] for i, t in enumerate([*tokens, self.eos]))) for scores, tokens in zip(row, lists)])
        return out


class PromptedDecoder(OnnxDecoder):
    """Whisper's: it is told language and task when a state is made, and never says some tokens.

    Args:
        about: `prompted` of an artifact's meta.json.
    """

    def __init__(self, memory: Any, decoder: Any, eos: int, about: dict[str, Any]) -> None:
        super().__init__(memory, decoder, about["prompt"][-1], eos)
        self.prompt, self.languages, self.most = list(about["prompt"]), sorted(about["languages"].values()), int(about["most_tokens"])
        self.silence: int | None = about.get("silence")
        self.silent = np.array(about["silent"], dtype=np.int64)
        self.silent_first = np.array(about["silent_first"], dtype=np.int64)

    def limit(self, frames: int) -> int:
        """How many tokens an utterance of so many frames may have: speech has fewer than 15 a second."""
        return min(self.most, math.ceil(frames * 0.3 + 20))

    def init_state(self, states: np.ndarray, frames: np.ndarray) -> DecoderState:
        """After all of the prompt but its last token."""
        state = super().init_state(states, frames)
        given = self._prompts(state)[:, None, :-1]
        return super().step(given, state)[1] if given.shape[2] else state

    def _prompts(self, state: DecoderState) -> np.ndarray:
        """With the language of each utterance, where it is to be found out."""
        given = np.repeat(np.array([self.prompt], dtype=np.int64), len(state.frames), axis=0)
        if -1 in self.prompt:
            log_probs, _ = super().step(given[:, None, :1], state)
            given[:, 1] = np.array(self.languages)[log_probs[:, 0, 0][:, self.languages].argmax(-1)]
        return given

    def quiet(self, states: np.ndarray, frames: int) -> float:
        """Probability that nobody speaks in one utterance."""
        log_probs, _ = super().step(np.array([[self.prompt[:1]]]), super().init_state(states[None], np.array([frames])))
        return float(np.exp(log_probs[0, 0, 0, self.silence]))

    def step(self, tokens: np.ndarray, state: DecoderState, parents: np.ndarray | None = None) -> tuple[np.ndarray, DecoderState]:
        """As of every decoder, with minus infinity for what is never said."""
        first = state.position == len(self.prompt) - 1
        log_probs, state = super().step(tokens, state, parents)
        log_probs[..., self.silent] = -np.inf
        if first:
            log_probs[:, :, 0, self.silent_first] = -np.inf
        return log_probs, state


def greedy_tokens(decoder: OnnxDecoder, states: np.ndarray, frames: int, forbidden: frozenset[int]) -> tuple[list[int], list[float], float]:
    """The likeliest token at every step of one utterance, until the end, a loop, or as many as it may have: as voxkit.search.generation.

    Returns:
        tokens, their log-probabilities, and that of all with the end.
    """
    tokens: list[int] = []
    said: list[float] = []
    score, last, rule = 0.0, decoder.bos, StopRule()
    state, barred = decoder.init_state(states[None], np.array([frames])), np.array(sorted(forbidden - {decoder.eos}), dtype=np.int64)
    for _ in range(decoder.limit(frames)):
        log_probs, state = decoder.step(np.array([[[last]]]), state)
        row = log_probs[0, 0, 0]
        row[barred] = -np.inf
        last = int(row.argmax())
        score += float(row[last])
        if last == decoder.eos:
            break
        tokens.append(last)
        said.append(float(row[last]))
        if (cut := rule.loop(tokens)) is not None:
            return tokens[:cut], said[:cut], score
    return tokens, said, score
