"""Recognition that goes on learning: a state for each speaker, carried from utterance to utterance, and a guard that lets go of it.

    adaptation = Adaptation(Recognizer.load("exp/main"))
    for path in sorted(folder.glob("*.wav")):
        print(adaptation.transcribe(path, "anna").text)
    adaptation.save("anna", "anna.safetensors")

Nothing is hidden in the model: states are values in `Adaptation.states`, and the model gives the same for the same state.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from voxkit.batch import Batch, turns
from voxkit.encoders.lact import Carried
from voxkit.hypothesis import Hypothesis
from voxkit.infer.recognizer import Recognizer, SearchOptions, read_input
from voxkit.infer.session_state import SessionState, read_state, write_state
from voxkit.models.contract import Encoded
from voxkit.models.lact_asr import LaCTASR


class Adaptation:
    """A recognizer with a memory of who speaks.

    Args:
        recognizer: of a model that carries state.
        guard: recognize an utterance from the initial weights where these know it better than the speaker's state does (by the inner
            loss); the state goes on from what it was. Costs a second encoding.
        margin: by how much the state must be better, in cosine.

    Attributes:
        states: speaker → state. Take, put back or delete them at will.

    Raises:
        ValueError: a model that carries nothing.
    """

    def __init__(self, recognizer: Recognizer, *, guard: bool = True, margin: float = 0.0) -> None:
        if not isinstance(recognizer.model, LaCTASR) or not recognizer.model.carries:
            raise ValueError("this model carries nothing from one utterance to the next: use one of system lact_asr with encoder.kind lact")
        self.recognizer, self.model, self.guard, self.margin = recognizer, recognizer.model, guard, margin
        self.states: dict[str, SessionState] = {}

    def state(self, speaker: str) -> SessionState:
        """The state of a speaker, empty at first."""
        return self.states.setdefault(speaker, SessionState())

    def transcribe(self, audio: str | os.PathLike | Tensor, speaker: str = "", options: SearchOptions | None = None) -> Hypothesis:
        """One file, or one waveform [S] at 16 kHz; the speaker's state goes on."""
        batch = read_input(audio)
        batch.sessions = [speaker]
        return self.recognize(batch, options)[0]

    @torch.inference_mode()
    def recognize(self, batch: Batch, options: SearchOptions | None = None) -> list[Hypothesis]:
        """A batch whose `sessions` name speakers → hypotheses in its order. Several utterances of a speaker are heard one after the other.

        Raises:
            ValueError: as `Recognizer.recognize`.
        """
        options, speakers = options or SearchOptions(), batch.sessions or [""] * batch.size
        found: dict[int, Hypothesis] = {}
        for rows in turns(speakers):
            for row, hypothesis in zip(rows, self.recognizer.search(self.encode([batch.take(slice(r, r + 1)) for r in rows],
                                                                                [speakers[r] for r in rows]), options)):
                found[row] = hypothesis
        return [found[row] for row in range(batch.size)]

    @torch.inference_mode()
    def hear(self, audio: str | os.PathLike | Tensor, speaker: str = "") -> SessionState:
        """Learn from audio without recognizing it → the speaker's state after it."""
        self.encode([read_input(audio)], [speaker])
        return self.states[speaker]

    @torch.inference_mode()
    def encode(self, utterances: Sequence[Batch], speakers: Sequence[str]) -> Encoded:
        """One utterance of each of some speakers → encoded with their states, which go on."""
        encoded = [self._one(utterance.to(self.recognizer.device), self.state(speaker)) for utterance, speaker in zip(utterances, speakers)]
        longest = max(one.states.shape[1] for one in encoded)
        states = torch.cat([torch.nn.functional.pad(one.states, (0, 0, 0, longest - one.states.shape[1])) for one in encoded])
        return Encoded(states, torch.cat([one.lengths for one in encoded]), torch.cat([one.seconds for one in encoded]))

    def _one(self, utterance: Batch, state: SessionState) -> Encoded:
        begin = state.carried
        if begin is not None and self.guard and not self._knows_better(utterance, begin):
            state.fallbacks += 1
            encoded = self.model.encode(utterance)
        else:
            encoded = self.model.encode(utterance, begin)
            state.carried = encoded.carried
        state.utterances += 1
        state.seconds += float(encoded.seconds.sum())
        return encoded

    def _knows_better(self, utterance: Batch, carried: Carried) -> bool:
        """Whether the state's inner loss on an utterance is at least as small as that of the initial weights."""
        encoder = self.model.encoder
        x, lengths = self.model.front_end(utterance)
        ours, initial = (encoder.agreement(x, lengths, weights) for weights in (encoder.rest(carried), encoder.initial(1)))
        return bool(ours >= initial + self.margin)

    def reset(self, speaker: str) -> None:
        """Forget a speaker."""
        self.states.pop(speaker, None)

    def decay(self, speaker: str, keep: float) -> None:
        """Draw a speaker's state towards the initial weights: keep 1 leaves it, 0 forgets all."""
        state = self.state(speaker)
        if not 0 <= keep <= 1:
            raise ValueError(f"keep {keep:g} is not in [0, 1]")
        if state.carried is not None:
            state.carried = tuple(torch.lerp(a, b, keep) for a, b in zip(self.model.encoder.initial(1), state.carried))

    def save(self, speaker: str, path: str | os.PathLike) -> None:
        """Write a speaker's state as safetensors."""
        write_state(path, self.state(speaker), self.model.encoder)

    def load(self, speaker: str, path: str | os.PathLike) -> None:
        """Read what `save` wrote.

        Raises:
            ValueError: no state, or another model's.
        """
        self.states[speaker] = read_state(path, self.model.encoder, self.recognizer.device)

    def report(self) -> str:
        """How much was heard and how often the guard fell back, in one line for each speaker."""
        return "\n".join(f"{speaker or 'the speaker'}: {state.utterances} utterances, {state.seconds:.0f} s, "
                         f"{state.fallbacks} recognized from the initial weights" for speaker, state in self.states.items())

