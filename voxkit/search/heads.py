"""What searches read: the heads of a model over the states of its encoder. A model without one of them has None there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from voxkit.search.attention import Decoder


class Guess(Protocol):
    """What a parallel decoder says: log_probs [B, U, V] float32, lengths [B] tokens, times [B, U] in frames, where each fires,
    weights [B, T] of the frames."""

    log_probs: Tensor
    lengths: Tensor
    times: Tensor
    weights: Tensor


class Parallel(Protocol):
    """A decoder that says all tokens at once."""

    def predict(self, states: Tensor, lengths: Tensor, guided: bool = False) -> Guess:
        """States [B, T, D], lengths [B] → every token; `guided`: as many as the CTC head says, where it says."""

    def score(self, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Log-probabilities of texts: tokens [B, N, U], token_lengths [B, N] → [B, N]."""

    def attention_weights(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Where it looks at each of its tokens: [layers, B, H, U, T]."""


class Examined(Protocol):
    """Texts that a language model has read once more: log_probs [B, U + 1] of each token and the end, entropies [B, U + 1] in nats, states
    [B, U, D] after each token."""

    log_probs: Tensor
    entropies: Tensor
    states: Tensor


class Speaker(Protocol):
    """A language model that reads a prompt and the states and says a text; a `Decoder` besides."""

    bos: int
    eos: int

    def limit(self, lengths: Tensor) -> Tensor:
        """How many tokens utterances of lengths [B] states may have, [B]."""

    def prompted(self, request: Any, count: int) -> Speaker:
        """The same with a prompt (`voxkit.text.prompt.Request`) for each of so many utterances."""

    def examine(self, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Examined:
        """One pass over given texts: tokens [B, U], token_lengths [B]."""

    def align(self, text: Tensor, words: Tensor, states: Tensor, lengths: Tensor) -> Tensor | None:
        """text [B, U, D] of `examine`, the word of each token [B, U] (-1: none) → log-probabilities [B, W + 1, T] that a frame belongs to
        no word, to each word; None where no alignment was learned."""


@dataclass(frozen=True)
class Heads:
    """Of one model.

    Attributes:
        ctc: states [B, T, D] → log-probabilities [B, T, V], float32; blank is its id there.
        decoder: token by token (`voxkit.search.attention.Decoder`).
        parallel: all tokens at once.
        transducer: frame by frame, token by token.
        llm: a language model with a prompt.
    """

    ctc: Callable[[Tensor], Tensor] | None = None
    decoder: Decoder | None = None
    parallel: Parallel | None = None
    transducer: Any = None
    llm: Speaker | None = None
    blank: int = 0

    def there(self) -> list[str]:
        """Names of those that the model has."""
        return [name for name in NAMES if getattr(self, name) is not None]


NAMES = {"ctc": "a CTC head", "decoder": "an attention decoder", "parallel": "a parallel decoder", "transducer": "a transducer",
         "llm": "a language model that reads audio"}


@dataclass
class Heard:
    """A batch behind the encoder, with the heads to read it by.

    Attributes:
        heads: of the model; states: [B, T, D]; lengths: [B].
    """

    heads: Heads
    states: Tensor
    lengths: Tensor

    @cached_property
    def ctc(self) -> Tensor:
        """Log-probabilities of the CTC head [B, T, V], computed once: a search and the times of its words both look at them."""
        assert self.heads.ctc is not None, "a method that needs the head says so in its row"
        return self.heads.ctc(self.states)
