"""Paraformer's decoder (Gao et al. 2022, arXiv 2206.08317): all tokens of an utterance at once, from one CIF vector each.

It is the Transformer decoder without the causal mask: every token looks at all the others and at the encoder states. What the tokens
would tell each other one after the other in an autoregressive decoder it learns by glancing (Qian et al. 2021, arXiv 2008.07905): a
first pass guesses, and the more it got wrong, the more true tokens are shown to the second pass, which has to guess the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxkit.decoders.transformer import TokenDecoder, TransformerDecoderConfig
from voxkit.masks import lengths_to_mask
from voxkit.nn.positions import sinusoids
from voxkit.ops.checks import check_shapes


@dataclass
class GlancingConfig:
    """Attributes: start, end: share of the first pass's errors that are shown, at step 0 and from `steps` optimizer steps on; linear
    between. 0 and 0: a single pass."""

    start: float = 0.75
    end: float = 0.25
    steps: int = 20000

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is not in [0, 1]" for name in ("start", "end") if not 0 <= getattr(self, name) <= 1]
        return found + ([f"steps: {self.steps} is negative"] if self.steps < 0 else [])

    def ratio(self, step: int) -> float:
        """At an optimizer step."""
        done = min(1.0, step / self.steps) if self.steps else 1.0
        return self.start + (self.end - self.start) * done


class ParallelDecoder(TokenDecoder):
    """CIF vectors and encoder states → logits of every token.

    Args:
        config: sizes; `tie` lets the output share the token embedding.
        vocab_size: V.
        memory_dim: width of encoder states and CIF vectors.
    """

    def __init__(self, config: TransformerDecoderConfig, vocab_size: int, memory_dim: int) -> None:
        super().__init__(config, vocab_size, memory_dim, input=nn.Linear(memory_dim, config.dim))

    def forward(self, vectors: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor, tokens: Tensor | None = None,
                shown: Tensor | None = None) -> Tensor:
        """One pass.

        Args:
            vectors: [B, U, D], token_lengths [B]; memory: [B, T, D], memory_lengths [B].
            tokens, shown: [B, U] true tokens, and where (True) they stand in for the vectors.

        Returns:
            logits [B, U, V].
        """
        return self._forward(vectors, token_lengths, memory, memory_lengths, tokens, shown, False)[0]

    def attention_weights(self, vectors: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor) -> Tensor:
        """Cross-attention of every layer: [layers, B, H, U, T]."""
        return torch.stack(self._forward(vectors, token_lengths, memory, memory_lengths, None, None, True)[1])

    def _forward(self, vectors: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor, tokens: Tensor | None,
                 shown: Tensor | None, need_weights: bool) -> tuple[Tensor, list[Tensor | None]]:
        given = {"tokens": (tokens, "BU"), "shown": (shown, "BU")} if tokens is not None and shown is not None else {}
        check_shapes({"vectors": (vectors, "BUD"), "token_lengths": (token_lengths, "B"), "memory": (memory, "BTD"),
                      "memory_lengths": (memory_lengths, "B"), **given}, D=self.input.in_features)
        x = self.input(vectors)
        if tokens is not None and shown is not None:
            x = torch.where(shown[..., None], self.embed(tokens).to(x.dtype), x)
        x = self.dropout(x + sinusoids(x.shape[1], self.dim, x.device).to(x.dtype))
        # An utterance without tokens looks at its first (empty) vector: no row of a softmax is without a place to look.
        own = lengths_to_mask(token_lengths.clamp(min=1), x.shape[1])[:, None, None, :]
        cross = lengths_to_mask(memory_lengths.clamp(min=1), memory.shape[1])[:, None, None, :]
        return self.run_layers(x, own, memory, cross, need_weights)


@torch.no_grad()
def glance(logits: Tensor, tokens: Tensor, token_lengths: Tensor, ratio: float) -> Tensor:
    """Which true tokens to show after a first pass: `ratio` times as many as it got wrong, at random places.

    Args:
        logits: [B, U, V] of the first pass; tokens: [B, U]; token_lengths: [B].

    Returns:
        [B, U] bool. Randomness is torch's global CPU generator's, so that a restored generator repeats it on any device.
    """
    valid = lengths_to_mask(token_lengths, tokens.shape[1])
    wrong = ((logits.argmax(-1) != tokens) & valid).sum(1)
    number = (wrong * ratio).round().long()
    order = torch.rand(tokens.shape).to(tokens.device).masked_fill(~valid, 2.0).argsort(1).argsort(1)
    return (order < number[:, None]) & valid
