"""The transducer's stateless decoder and joiner (Graves 2012; Ghodsi et al. 2020), with icefall's shapes and parameter names.

    tokens ─ embedding ─ convolution over the last two ─ decoder_proj ─┐
    encoder states ─ encoder_proj ────────────────────────────────────┴─ + ─ tanh ─ output_linear ─ logits over blank and tokens

The decoder sees no more than its last tokens, so that a search carries these alone as its state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING = -1  # in a context: there was no token yet
STARTS = ("nothing", "blank")


@dataclass
class TransducerConfig:
    """Attributes:
    decoder_dim: width of the decoder's embeddings.
    joiner_dim: width of the space where states and decoder meet.
    context: tokens that the decoder sees.
    group_size: channels of the embedding that the convolution over the context mixes.
    start: what a search puts before the first token to fill the context: "nothing" (zeros, as the loss does and icefall's searches today)
        or "blank".
    """

    decoder_dim: int = 512
    joiner_dim: int = 512
    context: int = 2
    group_size: int = 4
    start: str = "nothing"

    def problems(self) -> list[str]:
        found = [f"{name}: {getattr(self, name)} is below 1" for name in ("decoder_dim", "joiner_dim", "context", "group_size")
                 if getattr(self, name) < 1]
        if not found and self.decoder_dim % self.group_size:
            found.append(f"group_size: {self.group_size} does not divide decoder_dim {self.decoder_dim}")
        return found if self.start in STARTS else [*found, f"start: {self.start!r} is none of {', '.join(STARTS)}"]


class StatelessDecoder(nn.Module):
    """Embeddings of the last tokens, mixed by a grouped convolution.

    Args:
        vocab_size: V.
        dim: of the embeddings and the output.
        context: tokens seen; with 1 there is no convolution.
        groups: of the convolution.
    """

    def __init__(self, vocab_size: int, dim: int, context: int, groups: int) -> None:
        super().__init__()
        self.context = context
        self.embedding = nn.Embedding(vocab_size, dim)
        self.conv = nn.Conv1d(dim, dim, context, groups=groups, bias=False) if context > 1 else None

    def forward(self, tokens: Tensor) -> Tensor:
        """Contexts one after the other: tokens [N, context - 1 + U], PADDING where there is none → [N, U, D]."""
        x = self._embed(tokens)
        return x if self.conv is None else self.conv(x.transpose(1, 2)).transpose(1, 2).relu()

    def last(self, context: Tensor) -> Tensor:
        """One context each: tokens [N, context] → [N, D]; a convolution of one step costs more to call than to compute."""
        x = self._embed(context)
        if self.conv is None:
            return x[:, 0]
        groups = self.conv.groups
        grouped = x.view(len(x), self.context, groups, 1, -1)  # [N, C, groups, 1, inputs]
        weight = self.conv.weight.view(groups, -1, *self.conv.weight.shape[1:]).permute(3, 0, 1, 2)  # [C, groups, outputs, inputs]
        return (grouped * weight).sum((1, 4)).flatten(1).relu()

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens.clamp(min=0)) * (tokens >= 0)[..., None]


class Joiner(nn.Module):
    """Scores of blank and every token, from a frame and what was said before.

    Args:
        encoder_dim, decoder_dim: widths of what comes in.
        joiner_dim: J.
        vocab_size: V.
    """

    def __init__(self, encoder_dim: int, decoder_dim: int, joiner_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.encoder_proj = nn.Linear(encoder_dim, joiner_dim)
        self.decoder_proj = nn.Linear(decoder_dim, joiner_dim)
        self.output_linear = nn.Linear(joiner_dim, vocab_size)

    def forward(self, heard: Tensor, said: Tensor) -> Tensor:
        """Both projected already, of shapes that broadcast, [..., J] → logits [..., V]."""
        return self.output_linear(torch.tanh(heard + said))


class Transducer(nn.Module):
    """The head: decoder, joiner, and the simple projections that only the loss looks at (Kuang et al. 2022).

    Args:
        config: sizes.
        vocab_size: V, blank among them.
        encoder_dim: of the states.
        blank: its id; also what stands before the first token.

    Attributes:
        simple_am_proj, simple_lm_proj: states and decoder outputs → [..., V]: a joiner that only adds.
    """

    def __init__(self, config: TransducerConfig, vocab_size: int, encoder_dim: int, blank: int = 0) -> None:
        super().__init__()
        self.blank = blank
        self.start = blank if config.start == "blank" else PADDING
        self.decoder = StatelessDecoder(vocab_size, config.decoder_dim, config.context, config.decoder_dim // config.group_size)
        self.joiner = Joiner(encoder_dim, config.decoder_dim, config.joiner_dim, vocab_size)
        self.simple_am_proj = nn.Linear(encoder_dim, vocab_size)
        self.simple_lm_proj = nn.Linear(config.decoder_dim, vocab_size)
        with torch.no_grad():  # icefall's start: small sums, so that the first logits are flat
            for linear in (self.joiner.encoder_proj, self.joiner.decoder_proj, self.simple_am_proj, self.simple_lm_proj):
                linear.weight.mul_(0.25)

    def decode(self, tokens: Tensor) -> Tensor:
        """For the loss: tokens [B, U] → decoder outputs before each and after the last [B, U + 1, D]."""
        return self.decoder(F.pad(F.pad(tokens, (1, 0), value=self.blank), (self.decoder.context - 1, 0), value=PADDING))

    def init_context(self, size: int, device: torch.device | str | None = None) -> Tensor:
        """What `size` hypotheses have said before their first token, [size, context]."""
        context = torch.full((size, self.decoder.context), self.start, dtype=torch.long, device=device)
        context[:, -1] = self.blank
        return context

    def hear(self, states: Tensor) -> Tensor:
        """states [..., D] → [..., J], what the joiner takes of them."""
        return self.joiner.encoder_proj(states)

    def say(self, context: Tensor) -> Tensor:
        """The last tokens [N, context] → [N, J], what the joiner takes of them."""
        return self.joiner.decoder_proj(self.decoder.last(context))

    def join(self, heard: Tensor, said: Tensor) -> Tensor:
        """[..., J] each, of shapes that broadcast → log-probabilities [..., V], float32."""
        return self.joiner(heard, said).float().log_softmax(-1)

    def internal_lm(self, said: Tensor) -> Tensor:
        """The language model that training put into decoder and joiner, estimated by silencing the states (Meng et al. 2021): [..., J] →
        log-probabilities of the tokens without blank [..., V]; blank has minus infinity."""
        silent = self.hear(said.new_zeros(self.joiner.encoder_proj.in_features))
        logits = self.joiner(silent, said).float()
        logits[..., self.blank] = -torch.inf
        return logits.log_softmax(-1)
