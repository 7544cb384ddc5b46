"""Whisper's decoder (Radford et al. 2022, arXiv 2212.04356): a Transformer decoder with learned positions, which is told by special tokens
what to write, and never says some others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from voxkit.decoders.transformer import DecoderState, TransformerDecoder, TransformerDecoderConfig


@dataclass
class WhisperTokens:
    """What a pretrained model's special tokens are, from its generation_config.json.

    Attributes:
        start, end: of a transcript; plain: "no time marks".
        languages: code → token ("en": <|en|>); empty: the model knows one language, and is told neither language nor task.
        tasks: "transcribe", "translate" → token.
        suppressed: never said; suppressed_first: not said as the first token (a blank, the end).
        alignment_heads: (layer, head) whose cross-attention follows the audio; empty: all of the upper half.
        silence: "nobody speaks"; None: not known.
    """

    start: int = 0
    end: int = 0
    plain: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    suppressed: list[int] = field(default_factory=list)
    suppressed_first: list[int] = field(default_factory=list)
    alignment_heads: list[list[int]] = field(default_factory=list)
    silence: int | None = None

    def prompt(self, language: str, task: str) -> list[int]:
        """What the decoder is given first; with the language "auto" the place of the language token holds -1.

        Raises:
            ValueError: a language or task that the model does not know.
        """
        if not self.languages:
            return [self.start, self.plain]
        if language != "auto" and language not in self.languages:
            raise ValueError(f"language: {language!r} is none of auto, {', '.join(sorted(self.languages))}")
        if task not in self.tasks:
            raise ValueError(f"task: {task!r} is none of {', '.join(self.tasks)}")
        return [self.start, -1 if language == "auto" else self.languages[language], self.tasks[task], self.plain]


class Followed(NamedTuple):
    """One utterance: weights [heads, P + U, T] of the alignment heads over the states that are audio, log_probs [U] of its tokens, and
    the row that predicts the first of them."""

    weights: Tensor
    log_probs: Tensor
    first: int


class WhisperDecoder(TransformerDecoder):
    """The decoder. A search begins with `bos`, the last token of the prompt; those before are given when a state is made.

    Args:
        config: sizes; the output shares the embedding.
        outputs: tokens that it scores. positions: tokens that it may hear in all.
        tokens: see WhisperTokens; language, task: of the prompt.
        whole: attend to all states, padding included: so it was trained, with every clip padded to 30 s.
    """

    silent: Tensor

    def __init__(self, config: TransformerDecoderConfig, outputs: int, positions: int, tokens: WhisperTokens, language: str, task: str,
                 whole: bool) -> None:
        prompt = tokens.prompt(language, task)
        super().__init__(config, outputs, config.dim, prompt[-1], tokens.end)
        self.output = nn.Linear(config.dim, outputs, bias=False)
        self.output.weight = self.embedding.weight
        self.positions = nn.Embedding(positions, config.dim)
        self.tokens, self.prompt, self.whole = tokens, prompt, whole
        silent = torch.zeros(2, outputs, dtype=torch.bool)
        silent[:, [t for t in tokens.suppressed if t < outputs]] = True
        silent[0, [t for t in tokens.suppressed_first if t < outputs]] = True
        self.register_buffer("silent", silent, persistent=False)  # [2, V]: as the first token, later

    @property
    def most_tokens(self) -> int:
        """Of a transcript: what positions are left behind the prompt."""
        return self.positions.num_embeddings - len(self.prompt)

    def limit(self, lengths: Tensor) -> Tensor:
        """How many tokens utterances of lengths [B] states may have: speech has fewer than 15 a second."""
        return (lengths * 0.3 + 20).ceil().long().clamp(max=self.most_tokens)

    @property
    def alignment_heads(self) -> list[tuple[int, int]]:
        """Whose cross-attention follows the audio."""
        if self.tokens.alignment_heads:
            return [(layer, head) for layer, head in self.tokens.alignment_heads]
        heads = self.layers[0].cross_attention.heads
        return [(layer, head) for layer in range(len(self.layers) // 2, len(self.layers)) for head in range(heads)]

    def follow(self, memory: Tensor, memory_lengths: Tensor, texts: Sequence[Sequence[int]]) -> list[Followed]:
        """What it does while it says given texts: memory [B, T, D], memory_lengths [B], tokens of each utterance."""
        found = []
        for n, (text, prompt) in enumerate(zip(texts, self.prompts(memory, memory_lengths).tolist())):
            tokens = torch.tensor([[*prompt, *text]], device=memory.device)
            logits, weights = self._forward(tokens, memory[n:n + 1], memory_lengths[n:n + 1], need_weights=True)
            by_layer = [w[0] for w in weights if w is not None]
            first = len(prompt) - 1
            log_probs = logits[0, first:first + len(text)].float().log_softmax(-1).gather(1, tokens[0, len(prompt):, None])[:, 0]
            followed = torch.stack([by_layer[layer][head] for layer, head in self.alignment_heads])
            found.append(Followed(followed[:, :, :int(memory_lengths[n])], log_probs, first))
        return found

    def prompts(self, memory: Tensor, memory_lengths: Tensor) -> Tensor:
        """The prompt of each of B utterances [B, P], its language found out where it is not set."""
        prompts = torch.tensor(self.prompt, device=memory.device).repeat(len(memory), 1)
        if -1 in self.prompt:
            prompts[prompts == -1] = self._language(self._at_start(memory, memory_lengths))
        return prompts

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [...] → [..., D]."""
        return self.embedding(tokens)

    def embed_at(self, tokens: Tensor, places: Tensor) -> Tensor:
        """tokens [N, P] that stand at places [P] → what the first layer gets [N, P, D]."""
        return self.embed(tokens) + self.positions(places)

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> DecoderState:
        """State of each of the B utterances after all of the prompt but its last token."""
        state = super().init_state(memory, self._seen(memory, memory_lengths))
        languages = None
        for token in self.prompt[:-1]:
            given = torch.full((len(memory),), token, device=memory.device) if token >= 0 or languages is None else languages
            log_probs, state = super().step(given, state)
            if languages is None and -1 in self.prompt:
                languages = self._language(log_probs)
        return state

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The last token of each hypothesis [N] → log-probabilities of the next [N, V] (float32), minus infinity for what is never said."""
        first = state.position == len(self.prompt) - 1
        log_probs, state = super().step(tokens, state)
        return log_probs.masked_fill(self.silent[0 if first else 1], -torch.inf), state

    @property
    def silence(self) -> int | None:  # type: ignore[override]
        """The token that says that nobody speaks."""
        return self.tokens.silence

    def quiet(self, memory: Tensor, memory_lengths: Tensor) -> Tensor:
        """Probability that nobody speaks [B], where there is a token for it."""
        assert self.silence is not None
        return self._at_start(memory, memory_lengths)[:, self.silence].exp()

    def languages(self, memory: Tensor, memory_lengths: Tensor) -> list[str]:
        """The likeliest language of each utterance; empty strings where the model knows one alone."""
        if not self.tokens.languages:
            return [""] * len(memory)
        log_probs = self._at_start(memory, memory_lengths)
        names = {token: name for name, token in self.tokens.languages.items()}
        return [names[token] for token in self._language(log_probs).tolist()]

    def teacher_forcing(self, tokens: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tokens [B, U] → inputs [B, P + U] (the prompt first), targets [B, P + U] (the end last, -100 within the prompt), lengths [B].

        Raises:
            ValueError: the language is to be found out, and nobody says which these are in.
        """
        if -1 in self.prompt:
            raise ValueError("training and scoring need model.language: with auto the prompt of a transcript is not known")
        inputs, targets, lengths = super().teacher_forcing(tokens, token_lengths)
        before = torch.tensor(self.prompt[:-1], device=tokens.device).expand(len(tokens), -1)
        targets = torch.cat([torch.full_like(before, -100), targets], dim=1)
        return torch.cat([before, inputs], dim=1), targets, lengths + before.shape[1]

    def _forward(self, tokens: Tensor, memory: Tensor, memory_lengths: Tensor, need_weights: bool) -> tuple[Tensor, list[Tensor | None]]:
        return super()._forward(tokens, memory, self._seen(memory, memory_lengths), need_weights)

    def _at_start(self, memory: Tensor, memory_lengths: Tensor) -> Tensor:
        """Log-probabilities of what follows the start token [B, V]: of a language, of silence."""
        start = torch.full((len(memory),), self.tokens.start, device=memory.device)
        return super().step(start, super().init_state(memory, self._seen(memory, memory_lengths)))[0]

    def _seen(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """How many states of each utterance are attended to [B]."""
        return torch.full_like(lengths, memory.shape[1]) if self.whole else lengths

    def _language(self, log_probs: Tensor) -> Tensor:
        """Log-probabilities behind the start token [B, V] → the token of the likeliest language [B]."""
        known = torch.tensor(sorted(self.tokens.languages.values()), device=log_probs.device)
        return known[log_probs[:, known].argmax(1)]
