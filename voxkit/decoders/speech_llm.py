"""A language model that reads a prompt and audio, and says a transcript: losses in training, and a decoder as every search knows it.

    prompt (before) ─ projected audio ─ prompt (after) ─ transcript ─ end

Transcripts are in the speech model's own ids (`voxkit.text.llm_vocabulary`): blank 0, end 1, candidates. Prompts are in the language
model's.

B utterances · N vectors of audio · U tokens · C candidates · D width of the language model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from voxkit.batch import Padded
from voxkit.decoders.llm import LLM, Past
from voxkit.decoders.llm_config import LLMConfig

END = 1
_ROWS = 256  # rows of logits at a time where they are looked at one by one


@dataclass
class SpeechState:
    """Where N hypotheses are; a value.

    Attributes:
        past: of the language model.
        waiting: [N, C] log-probabilities of the first token, which the beginning gave already.
    """

    past: Past
    waiting: Tensor | None = None

    def select(self, index: Tensor) -> SpeechState:
        """Hypotheses index [M], repeats allowed."""
        return SpeechState(self.past.select(index), None if self.waiting is None else self.waiting[index])


@dataclass
class Examined:
    """A transcript read once more, token by token.

    Attributes:
        log_probs: [B, U + 1] of each token and the end; 0 past an utterance's end.
        entropies: [B, U + 1] of what could have stood there, nats.
        states: [B, U, D] after each token.
    """

    log_probs: Tensor
    entropies: Tensor
    states: Tensor


class SpeechLLM(LLM):
    """A language model between projected audio and a transcript.

    Args:
        config: which one.
        model_ids: its id of each of the speech model's tokens; of blank anything.
        before, after: default prompt in front of the audio and behind it; `after` holds a token at least.
    """

    def __init__(self, config: LLMConfig, model_ids: Sequence[int], before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__(config)
        if not after:
            raise ValueError("a prompt without anything between audio and transcript: the language model has nothing to begin from")
        if max(model_ids) >= self.vocab_size:
            raise ValueError(f"{config.name} has {self.vocab_size} tokens, and token {max(model_ids)} is a candidate: were they made "
                             "from another tokenizer?")
        for name, ids in (("model_ids", model_ids), ("before", before), ("after", after)):
            self.register_buffer(name, torch.tensor(ids, dtype=torch.long), persistent=False)

    @property
    def table(self) -> Tensor:
        """[C, D] embeddings of the speech model's tokens."""
        return self.embed(self.model_ids)

    def label_states(self, audio: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor,
                     prompt: Padded | None = None) -> tuple[Tensor, Tensor]:
        """The language model's states along transcripts.

        Args:
            audio: [B, N, D] projected, lengths [B]; tokens: [B, U], token_lengths [B].
            prompt: [B, P] before the audio; None: the default.

        Returns:
            states [B, U + 1, D]: at place u the one that token u is predicted from, at place U the end; and [B] places that count.
        """
        rows = self._beginnings(audio, lengths, prompt)
        said = self.embed(self.model_ids[tokens])
        first = torch.tensor([len(row) for row in rows], device=audio.device) - 1
        whole = [torch.cat([row, one[:n]]) for row, one, n in zip(rows, said, token_lengths.tolist())]
        states = self(pad_sequence(whole, batch_first=True), first + 1 + token_lengths)
        places = first[:, None] + torch.arange(tokens.shape[1] + 1, device=audio.device)
        places = torch.minimum(places, (first + token_lengths)[:, None])
        return states.gather(1, places[..., None].expand(-1, -1, states.shape[2])), token_lengths + 1

    def candidate_head(self) -> tuple[Tensor, Tensor | None]:
        """Weights and bias of the candidates without blank, which is no token of the language model: row c is token c + 1."""
        return self.head(self.model_ids[1:])

    def log_probs(self, states: Tensor) -> Tensor:
        """states [..., D] → log-probabilities [..., C] in float32, blank at minus infinity."""
        return F.pad(self.logits(states, self.model_ids[1:]).log_softmax(-1), (1, 0), value=-torch.inf)

    @torch.no_grad()
    def examine(self, audio: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, prompt: Padded | None = None) -> Examined:
        """One pass over transcripts that are known: exact probabilities, entropies, and states for the alignment."""
        states, counts = self.label_states(audio, lengths, tokens, token_lengths, prompt)
        targets = F.pad(tokens, (0, 1)).scatter(1, token_lengths[:, None], END)
        valid = torch.arange(states.shape[1], device=states.device) < counts[:, None]
        values, entropies = [], []
        for some, wanted in zip(states[valid].split(_ROWS), targets[valid].split(_ROWS)):
            scores = self.logits(some, self.model_ids[1:]).log_softmax(-1)
            values.append(scores.gather(1, wanted[:, None] - 1)[:, 0])
            entropies.append(-(scores.exp() * scores).sum(-1))
        out = [states.new_zeros(valid.shape, dtype=torch.float32).masked_scatter(valid, torch.cat(x)) for x in (values, entropies)]
        return Examined(out[0], out[1], states[:, 1:])

    def score(self, audio: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, prompt: Padded | None = None) -> Tensor:
        """Log-probability of whole hypotheses, the end included: tokens [B, n, U], token_lengths [B, n] → [B, n]."""
        size, count = tokens.shape[:2]
        repeated = None if prompt is None else Padded(prompt.values.repeat_interleave(count, 0), prompt.lengths.repeat_interleave(count))
        found = self.examine(audio.repeat_interleave(count, 0), lengths.repeat_interleave(count), tokens.flatten(0, 1),
                             token_lengths.flatten(), repeated)
        return found.log_probs.sum(1).unflatten(0, (size, count))

    def begin(self, audio: Tensor, lengths: Tensor, prompt: Padded | None = None) -> SpeechState:
        """The state before the first token of each utterance."""
        rows = self._beginnings(audio, lengths, prompt)
        last, past = self.start(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows], device=audio.device))
        return SpeechState(past, self.log_probs(last))

    def say(self, tokens: Tensor, state: SpeechState) -> tuple[Tensor, SpeechState]:
        """The last token of each hypothesis [N] → log-probabilities of the next [N, C]; at first any token, which is not read."""
        if state.waiting is not None:
            return state.waiting, SpeechState(state.past)
        last, past = self.step(self.embed(self.model_ids[tokens]), state.past)
        return self.log_probs(last), SpeechState(past)

    def _beginnings(self, audio: Tensor, lengths: Tensor, prompt: Padded | None) -> list[Tensor]:
        """Of each utterance what stands before its transcript, [n, D]."""
        after, audio = self.embed(self.after), audio.to(self.dtype)
        if prompt is None:
            before = [self.embed(self.before)] * len(audio)
        else:
            before = [row[:n] for row, n in zip(self.embed(prompt.values), prompt.lengths.tolist())]
        return [torch.cat([head, row[:n], after]) for head, row, n in zip(before, audio, lengths.tolist())]
