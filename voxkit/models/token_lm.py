"""A small language model over the tokenizer's pieces, LSTM or Transformer, for shallow fusion (Gulcehre et al. 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.masks import causal_mask, lengths_to_mask
from voxkit.models.contract import Losses, SpeechModel
from voxkit.nn.positions import sinusoids
from voxkit.system import System, TokenIds

KINDS = ("lstm", "transformer")
State = tuple[Tensor, Tensor]


@dataclass
class TokenLMConfig:
    """Attributes: kind: lstm or transformer; dim: width, of the embedding too; layers; heads and ffn: of the transformer; dropout;
    vocab_size: as the tokenizer says."""

    kind: str = "lstm"
    dim: int = 256
    layers: int = 2
    heads: int = 4
    ffn: int = 1024
    dropout: float = 0.3
    vocab_size: int = 0

    def problems(self) -> list[str]:
        found = [] if self.kind in KINDS else [f"kind: {self.kind!r} is none of {', '.join(KINDS)}"]
        if self.dim % self.heads:
            found.append(f"heads: {self.heads} does not divide dim {self.dim}")
        return found


class TokenLM(SpeechModel):
    """Tokens so far → logits of the next; input and output share the embedding.

    Args:
        config: with vocab_size set.
        bos, eos: token ids; a sentence begins with bos and ends with eos.
    """

    def __init__(self, config: TokenLMConfig, bos: int = 1, eos: int = 2) -> None:
        super().__init__()
        self.config, self.bos, self.eos = config, bos, eos
        d = config.dim
        self.embedding = nn.Embedding(config.vocab_size, d)
        nn.init.normal_(self.embedding.weight, std=d**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.body: nn.Module
        if config.kind == "lstm":
            self.body = nn.LSTM(d, d, config.layers, batch_first=True, dropout=config.dropout if config.layers > 1 else 0.0)
        else:
            layer = nn.TransformerEncoderLayer(d, config.heads, config.ffn, config.dropout, F.gelu, batch_first=True, norm_first=True)
            self.body = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(d), enable_nested_tensor=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [N, U] that begin with bos → logits [N, U, V]; padding at the end changes nothing before it."""
        x = self.embedding(tokens) * math.sqrt(self.config.dim)
        if self.config.kind == "lstm":
            x = self.body(self.dropout(x))[0]
        else:
            x = self.dropout(x + sinusoids(tokens.shape[1], self.config.dim, tokens.device))
            x = self.body(x, mask=~causal_mask(tokens.shape[1], tokens.device))
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self.dropout(x), self.embedding.weight, self.bias)

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy per token, in nats, eos counted."""
        tokens, lengths = batch.tokens.values, batch.tokens.lengths
        inputs = F.pad(tokens, (1, 0), value=self.bos)
        targets = F.pad(tokens, (0, 1)).scatter(1, lengths[:, None], self.eos)
        targets = targets.masked_fill(~lengths_to_mask(lengths + 1, targets.shape[1]), -100)
        logits = self(inputs)
        count = (lengths + 1).sum()
        return Losses(F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="sum") / count, count)

    @torch.no_grad()
    def next_log_probs(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens [N, U] beginning with bos, lengths [N] → log-probabilities of the next token [N, V]."""
        logits = self(tokens)
        return logits[torch.arange(len(tokens), device=tokens.device), lengths - 1].float().log_softmax(-1)

    @torch.no_grad()
    def advance(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """One token of each hypothesis [N] → log-probabilities of the next [N, V], and the LSTM's state, each [N, layers, D].

        Raises:
            ValueError: a transformer, which has no such state.
        """
        if self.config.kind != "lstm":
            raise ValueError("only an LSTM goes step by step; a transformer sees the whole history (next_log_probs)")
        inner = None if state is None else tuple(x.transpose(0, 1).contiguous() for x in state)
        x, after = self.body(self.dropout(self.embedding(tokens[:, None]) * math.sqrt(self.config.dim)), inner)
        return self._logits(x[:, 0]).float().log_softmax(-1), (after[0].transpose(0, 1), after[1].transpose(0, 1))


def build(config: TokenLMConfig, tokens: TokenIds) -> TokenLM:
    """A language model over a vocabulary.

    Raises:
        ValueError: sentences of this vocabulary have no begin or no end.
    """
    if tokens.bos is None or tokens.eos is None:
        raise ValueError("a language model needs a tokenizer with tokens for begin and end of a sentence; `voxkit tokenize` makes one")
    return TokenLM(config, tokens.bos, tokens.eos)


SYSTEM = System(TokenLMConfig, build, reader="sentences", evaluation="perplexity", metric="perplexity", use="language_model")
