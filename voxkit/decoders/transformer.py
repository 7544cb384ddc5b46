"""Transformer decoder: tokens so far + encoder states → log-probabilities of the next token (Vaswani et al. 2017; pre-norm).

Three ways in, one set of weights: `forward` (teacher forcing, training), `score` (whole hypotheses, rescoring) and
`init_state` / `step` (one token at a time with a key-value cache, beam search).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import causal_mask, lengths_to_mask
from voxkit.nn.attention import MultiHeadAttention
from voxkit.nn.feed_forward import FeedForward
from voxkit.nn.positions import sinusoids_at


@dataclass
class TransformerDecoderConfig:
    """Attributes: dim: width; heads; ffn: inner width of the feed-forward; layers; dropout; tie: output shares the embedding."""

    dim: int = 512
    heads: int = 8
    ffn: int = 2048
    layers: int = 4
    dropout: float = 0.1
    tie: bool = False

    def problems(self) -> list[str]:
        return [f"heads: {self.heads} does not divide dim {self.dim}"] if self.dim % self.heads else []


@dataclass
class DecoderState:
    """What a step needs of the past, for N hypotheses of B utterances; reordered by `select` when a beam moves.

    What belongs to an utterance is kept once: a moving beam copies the keys and values over its tokens alone.

    Attributes:
        memory_mask: [B, 1, 1, T].
        cross: per layer, keys and values over the encoder states [B, H, T, d].
        past: per layer, keys and values over the tokens so far [N, H, u, d].
        rows: [N] utterance of each hypothesis.
        even: whether rows are 0, ..., 0, 1, ..., 1, ... with as many hypotheses for each: then they ask in one go, nothing is copied.
        watch: keep the cross-attention of each step, as `attention` [N, T] (mean over layers and heads).
    """

    memory_mask: Tensor
    cross: list[tuple[Tensor, Tensor]]
    past: list[tuple[Tensor, Tensor]]
    rows: Tensor
    even: bool = True
    watch: bool = False
    attention: Tensor | None = None

    @property
    def position(self) -> int:
        """Tokens already consumed."""
        return self.past[0][0].shape[2]

    def select(self, index: Tensor) -> DecoderState:
        """The states of hypotheses `index` [M] (repeats allowed), in that order."""
        rows, utterances = self.rows[index], len(self.memory_mask)
        even = len(rows) % utterances == 0
        if even:
            regular = torch.arange(utterances, device=rows.device).repeat_interleave(len(rows) // utterances)
            even = torch.equal(rows, regular)
        return replace(self, past=[(k[index], v[index]) for k, v in self.past], rows=rows, even=even,
                       attention=None if self.attention is None else self.attention[index])


class DecoderLayer(nn.Module):
    """x + self-attention, + attention over the encoder states, + feed-forward; a LayerNorm before each."""

    def __init__(self, config: TransformerDecoderConfig, memory_dim: int) -> None:
        super().__init__()
        d = config.dim
        self.self_norm, self.cross_norm, self.ffn_norm = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.self_attention = MultiHeadAttention(d, config.heads, dropout=config.dropout)
        self.cross_attention = MultiHeadAttention(d, config.heads, memory_dim, dropout=config.dropout)
        self.ffn = FeedForward(d, config.ffn, config.dropout).layers  # by themselves: checkpoints name them so
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None, self_mask: Tensor | None, cross: tuple[Tensor, Tensor],
                cross_mask: Tensor, need_weights: bool = False) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """x [N, U, D] → x, this layer's keys and values over all tokens so far, cross-attention weights [N, H, U, T] or None.

        cross: keys and values [B, H, T, d]; hypothesis n is of utterance n // (N / B).
        """
        y = self.self_norm(x)
        keys, values = self.self_attention.keys_values(y)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        x = x + self.dropout(self.self_attention(y, keys, values, self_mask)[0])
        asked = self.cross_norm(x).reshape(cross[0].shape[0], -1, x.shape[2])  # all hypotheses of an utterance ask together
        y, weights = self.cross_attention(asked, *cross, cross_mask, need_weights=need_weights)
        if weights is not None:
            weights = weights.unflatten(2, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)
        x = x + self.dropout(y.reshape(x.shape))
        return x + self.dropout(self.ffn(self.ffn_norm(x))), (keys, values), weights


class TokenDecoder(nn.Module):
    """Token embedding, layers, output: what every decoder over tokens is made of.

    Args:
        config: sizes; `tie` lets the output share the embedding.
        vocab_size: V.
        memory_dim: width of the encoder states.
        input: brings vectors to the decoder's width, in one that does not begin with tokens.
    """

    def __init__(self, config: TransformerDecoderConfig, vocab_size: int, memory_dim: int, input: nn.Module | None = None) -> None:
        super().__init__()
        self.dim, self.vocab_size = config.dim, vocab_size
        if input is not None:
            self.input = input
        self.embedding = nn.Embedding(vocab_size, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, memory_dim) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.output = nn.Linear(config.dim, vocab_size)
        nn.init.normal_(self.embedding.weight, std=config.dim**-0.5)
        if config.tie:
            self.output.weight = self.embedding.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [...] → [..., D]."""
        return self.embedding(tokens) * math.sqrt(self.dim)

    def run_layers(self, x: Tensor, self_mask: Tensor, memory: Tensor, cross_mask: Tensor,
                   need_weights: bool) -> tuple[Tensor, list[Tensor | None]]:
        """x [N, U, D] with memory [B, T, M], N a multiple of B → logits [N, U, V], cross-attention of each layer [N, H, U, T] or None."""
        weights = []
        for layer in self.layers:
            x, _, w = layer(x, None, self_mask, layer.cross_attention.keys_values(memory), cross_mask, need_weights)
            weights.append(w)
        return self.output(self.norm(x)), weights


class TransformerDecoder(TokenDecoder):
    """The decoder of the hybrid CTC/attention model.

    Args:
        config: sizes.
        vocab_size: V, bos and eos among them.
        memory_dim: width of the encoder states.
        bos, eos: token ids.

    Attributes:
        whole: whether it attends to all states, padding included.
        alignment_heads: (layer, head) of those whose cross-attention is known to follow the audio; empty: none is.
        silence: the token that says that nobody speaks; None: there is none.
    """

    whole = False
    alignment_heads: Sequence[tuple[int, int]] = ()
    silence: int | None = None

    def __init__(self, config: TransformerDecoderConfig, vocab_size: int, memory_dim: int, bos: int = 1, eos: int = 2) -> None:
        super().__init__(config, vocab_size, memory_dim)
        self.bos, self.eos = bos, eos

    def forward(self, tokens: Tensor, memory: Tensor, memory_lengths: Tensor) -> Tensor:
        """Teacher forcing: tokens [B, U] that begin with bos, memory [B, T, D] → logits [B, U, V] of the token after each."""
        return self._forward(tokens, memory, memory_lengths, need_weights=False)[0]

    def attention_weights(self, tokens: Tensor, memory: Tensor, memory_lengths: Tensor) -> Tensor:
        """Cross-attention of every layer: [layers, B, H, U, T]."""
        return torch.stack(self._forward(tokens, memory, memory_lengths, need_weights=True)[1])

    def teacher_forcing(self, tokens: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tokens [B, U] without bos / eos → inputs [B, U+1] (bos first), targets [B, U+1] (eos last, padding -100), lengths [B]."""
        inputs = F.pad(tokens, (1, 0), value=self.bos)
        targets = F.pad(tokens, (0, 1)).scatter(1, token_lengths[:, None], self.eos)
        lengths = token_lengths + 1
        return inputs, targets.masked_fill(~lengths_to_mask(lengths, targets.shape[1]), -100), lengths

    def score(self, memory: Tensor, memory_lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Log-probability of whole hypotheses, eos included: memory [B, T, D], tokens [B, N, U], token_lengths [B, N] → [B, N]."""
        size, n = tokens.shape[:2]
        inputs, targets, _ = self.teacher_forcing(tokens.flatten(0, 1), token_lengths.flatten())
        logits = self._forward(inputs, memory, memory_lengths, need_weights=False)[0]
        losses = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        return -losses.sum(-1).unflatten(0, (size, n))

    def limit(self, lengths: Tensor) -> Tensor:
        """How many tokens utterances of lengths [B] states may have: one for each."""
        return lengths

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> DecoderState:
        """State before bos for each of the B utterances; `select` spreads it over a beam."""
        cross = [layer.cross_attention.keys_values(memory) for layer in self.layers]
        empty = cross[0][0].new_zeros(memory.shape[0], *cross[0][0].shape[1:2], 0, cross[0][0].shape[3])
        mask = lengths_to_mask(memory_lengths, memory.shape[1])[:, None, None, :]
        return DecoderState(mask, cross, [(empty, empty)] * len(self.layers), torch.arange(len(memory), device=memory.device))

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The last token of each hypothesis [N] → log-probabilities of the next [N, V] (float32) and the state after it."""
        x = self.embed_at(tokens[:, None], torch.arange(state.position, state.position + 1, device=tokens.device))
        past, watched = [], []
        mask = state.memory_mask if state.even else state.memory_mask[state.rows]
        for layer, own, cross in zip(self.layers, state.past, state.cross):
            cross = cross if state.even else (cross[0][state.rows], cross[1][state.rows])
            x, kept, weights = layer(x, own, None, cross, mask, state.watch)
            past.append(kept)
            watched.append(weights)
        log_probs = self.output(self.norm(x[:, 0])).float().log_softmax(-1)
        seen = torch.stack([w[:, :, 0].mean(1) for w in watched]).mean(0) if state.watch else None
        return log_probs, replace(state, past=past, attention=seen)

    def embed_at(self, tokens: Tensor, places: Tensor) -> Tensor:
        """tokens [N, P] that stand at places [P] → what the first layer gets [N, P, D]."""
        return self.embed(tokens) + sinusoids_at(places, self.dim)

    def _forward(self, tokens: Tensor, memory: Tensor, memory_lengths: Tensor, need_weights: bool) -> tuple[Tensor, list[Tensor | None]]:
        """tokens [N, U] with memory [B, T, D], N a multiple of B."""
        length = tokens.shape[1]
        x = self.dropout(self.embed_at(tokens, torch.arange(length, device=tokens.device)))
        cross_mask = lengths_to_mask(memory_lengths, memory.shape[1])[:, None, None, :]
        return self.run_layers(x, causal_mask(length, tokens.device), memory, cross_mask, need_weights)
