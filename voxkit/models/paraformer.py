"""Paraformer: encoder → CIF predictor → parallel decoder (Gao et al. 2022, arXiv 2206.08317).

    audio or features ─ front end ─ encoder ─┬─ CTC head (auxiliary)
                                             ├─ CIF predictor: how many tokens, where, one vector each
                                             └─ parallel decoder: all tokens at once
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.batch import Batch
from voxkit.decoders.intermediate_ctc import IntermediateCtcConfig, build_intermediate_ctc, share_problems
from voxkit.decoders.parallel import GlancingConfig, ParallelDecoder, glance
from voxkit.decoders.transformer import TransformerDecoderConfig
from voxkit.encoders.build import build_encoder
from voxkit.encoders.front_end import FrontEndConfig, build_front_end
from voxkit.losses.boundary import boundary_loss, ctc_boundaries, greedy_boundaries
from voxkit.losses.hybrid import correct_tokens, ctc_loss, label_smoothed_cross_entropy
from voxkit.losses.mwer import substitution_risk
from voxkit.losses.quantity import quantity_loss
from voxkit.masks import lengths_to_mask
from voxkit.models.contract import Losses
from voxkit.models.front_end_listener import FrontEndListener, HeardBatch, check_tokens
from voxkit.ops.cif_boundaries import Boundaries
from voxkit.precision import no_grad_pass
from voxkit.predictors import CifConfig, CifPredictor
from voxkit.search.heads import Heads
from voxkit.system import System, TokenIds


@dataclass
class ParaformerLossConfig:
    """Weights of the parts of the loss.

    Attributes:
        cross_entropy: of the tokens; label_smoothing: share of the target spread over the vocabulary.
        quantity: of the error in the number of tokens.
        ctc: of the auxiliary CTC head; 0 leaves the head out, and with it the searches that need it.
        intermediate: share of the CTC loss that is the mean of those half-way up (model.intermediate_ctc.after says where); 0 = none.
        boundary: of the error in the weight that each token gets between its boundaries, which the CTC head tells the predictor
            (losses/boundary.py); in training the decoder then gets each token's vector from between them. 0 = off.
        boundary_start: optimizer step from which that holds: the head must know where tokens are first. It is logged from step 0 on.
        mwer: of the risk of sampled hypotheses, for the end of a training; 0 = off. mwer_samples: hypotheses drawn.
    """

    cross_entropy: float = 1.0
    label_smoothing: float = 0.1
    quantity: float = 1.0
    ctc: float = 0.3
    intermediate: float = 0.0
    boundary: float = 0.0
    boundary_start: int = 0
    mwer: float = 0.0
    mwer_samples: int = 4

    def problems(self) -> list[str]:
        weights = ("cross_entropy", "quantity", "ctc", "boundary", "boundary_start", "mwer")
        found = [f"{name}: {getattr(self, name)} is negative" for name in weights if getattr(self, name) < 0]
        found += [f"{name}: it needs the auxiliary CTC head, and with ctc 0 there is none; 0.3 is its usual weight"
                  for name in ("boundary", "intermediate") if getattr(self, name) > 0 and self.ctc == 0]
        if not 0 <= self.intermediate < 1:
            found.append(f"intermediate: {self.intermediate} is not in [0, 1); it is a share of the CTC loss")
        if self.quantity == 0:
            found.append("quantity: with 0 nothing teaches the predictor how many tokens there are")
        if self.cross_entropy == 0 and self.mwer == 0:
            found.append("cross_entropy: with mwer 0 too, the decoder would not be trained")
        if not 0 <= self.label_smoothing < 1:
            found.append(f"label_smoothing: {self.label_smoothing} is not in [0, 1)")
        if self.mwer > 0 and self.mwer_samples < 2:
            found.append(f"mwer_samples: {self.mwer_samples} leave nothing to compare; at least 2")
        return found


@dataclass
class ParaformerConfig:
    """Attributes:
    vocab_size: pieces of the tokenizer; 0 = as the tokenizer says.
    front_end: where the vectors come from.
    encoder: `kind` (transformer, conformer, zipformer) and any field of its configuration.
    intermediate_ctc: where further CTC heads stand, below the end of the encoder; their loss has the share loss.intermediate.
    predictor: CIF; decoder: sizes of the parallel decoder; glancing: how much of the truth its second pass is shown in training.
    loss: weights.
    dropout: on the states before the CTC head, in training.
    """

    vocab_size: int = 0
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "conformer"})
    intermediate_ctc: IntermediateCtcConfig = field(default_factory=IntermediateCtcConfig)
    predictor: CifConfig = field(default_factory=CifConfig)
    decoder: TransformerDecoderConfig = field(default_factory=TransformerDecoderConfig)
    glancing: GlancingConfig = field(default_factory=GlancingConfig)
    loss: ParaformerLossConfig = field(default_factory=ParaformerLossConfig)
    dropout: float = 0.1

    def problems(self) -> list[str]:
        return share_problems(self.intermediate_ctc, self.loss.intermediate)


class Prediction(NamedTuple):
    """What `predict` finds: log_probs [B, U, V] float32, lengths [B] tokens, times [B, U] in frames of the encoder, where each fires,
    weights [B, T'] of these frames."""

    log_probs: Tensor
    lengths: Tensor
    times: Tensor
    weights: Tensor


class Paraformer(FrontEndListener):
    """The non-autoregressive recognizer.

    Args:
        config: with vocab_size set.

    Raises:
        ConfigError: an encoder option that does not exist; ValueError: no vocabulary.
    """

    def __init__(self, config: ParaformerConfig) -> None:
        front_end = build_front_end(config.front_end)
        super().__init__(front_end, build_encoder(config.encoder, front_end.output_dim))
        self.config = config
        dim = self.encoder.output_dim
        self.predictor = CifPredictor(dim, config.predictor)
        self.decoder = ParallelDecoder(config.decoder, config.vocab_size, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.ctc = nn.Linear(dim, config.vocab_size) if config.loss.ctc > 0 else None
        self.intermediate = build_intermediate_ctc(config.intermediate_ctc, self.encoder.place_dims, config.vocab_size)

    @property
    def heads(self) -> Heads:
        """The parallel decoder, and CTC where there is a head."""
        return Heads(ctc=self.ctc_log_probs if self.ctc is not None else None, parallel=self)

    def ctc_log_probs(self, states: Tensor) -> Tensor:
        """states [B, T', D] → [B, T', V], float32.

        Raises:
            ValueError: the model was trained without the head.
        """
        if self.ctc is None:
            raise ValueError("this model has no CTC head (model.loss.ctc is 0): use the methods greedy and beam, without --ctc-weight")
        return self.ctc(self.dropout(states)).float().log_softmax(-1)

    def loss_of(self, batch: Batch, heard: HeardBatch) -> Losses:
        """Loss per token, in nats; "accuracy" is of the tokens nobody had shown, given their number."""
        config = self.config.loss
        states, lengths, read, read_lengths = heard
        tokens, token_lengths = batch.tokens.values, batch.tokens.lengths
        num_tokens = token_lengths.sum().clamp(min=1)
        log_probs = self.ctc_log_probs(states) if self.ctc is not None else None
        boundaries = None
        if config.boundary > 0:
            boundaries = ctc_boundaries(log_probs, lengths, tokens, token_lengths)
        by_boundaries = self.step >= config.boundary_start
        found = self.predictor(states, lengths, token_lengths, boundaries if by_boundaries else None)
        targets = tokens.masked_fill(~lengths_to_mask(token_lengths, tokens.shape[1]), -100)
        logits, guessed = self._decode(found.vectors, states, lengths, tokens, token_lengths, targets)
        share = token_lengths / (guessed != -100).sum(1).clamp(min=1)  # an utterance counts by its tokens, however many of them were shown
        cross_entropy = (label_smoothed_cross_entropy(logits, guessed, config.label_smoothing) * share).sum() / num_tokens
        quantity = quantity_loss(found.quantity, token_lengths).sum() / num_tokens
        total = config.cross_entropy * cross_entropy + config.quantity * quantity
        parts = {"cross_entropy": cross_entropy.detach(), "quantity": quantity.detach()}
        if log_probs is not None:
            ctc = ctc_loss(log_probs, lengths, tokens, token_lengths).sum() / num_tokens
            parts["ctc"] = ctc.detach()
            if read:
                intermediate = sum(ctc_loss(r, read_lengths, tokens, token_lengths).sum() for r in read) / (len(read) * num_tokens)
                ctc = (1 - config.intermediate) * ctc + config.intermediate * intermediate
                parts["intermediate"] = intermediate.detach()
            total = total + config.ctc * ctc
        if boundaries is not None:
            boundary = boundary_loss(found.unscaled, boundaries, token_lengths).sum() / num_tokens
            total = total + (config.boundary if by_boundaries else 0.0) * boundary
            parts["boundary"] = boundary.detach()
        if config.mwer > 0 and self.training:
            mwer = substitution_risk(logits, tokens, token_lengths, config.mwer_samples).sum() / num_tokens
            total = total + config.mwer * mwer
            parts["mwer"] = mwer.detach()
        return Losses(total, num_tokens, parts, {"accuracy": correct_tokens(logits, guessed)})

    def predict(self, states: Tensor, lengths: Tensor, guided: bool = False) -> Prediction:
        """states [B, T', D], lengths [B] → log-probabilities of every token, as many as CIF finds.

        Args:
            guided: let the CTC head say how many tokens there are and where they end, as it does in training (loss.boundary).
        """
        boundaries, counts = greedy_boundaries(self.ctc_log_probs(states), lengths) if guided else (None, None)
        found = self.predictor(states, lengths, counts, boundaries)
        if found.vectors.shape[1] == 0:
            return Prediction(states.new_zeros(len(states), 0, self.config.vocab_size), found.lengths, found.times, found.weights)
        logits = self.decoder(found.vectors, found.lengths, states, lengths)
        return Prediction(logits.float().log_softmax(-1), found.lengths, found.times, found.weights)

    def attention_weights(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Where the decoder looks at each of its tokens: [layers, B, H, U, T']."""
        found = self.predictor(states, lengths)
        if found.vectors.shape[1] == 0:
            return states.new_zeros(1, len(states), 1, 0, states.shape[1])
        return self.decoder.attention_weights(found.vectors, found.lengths, states, lengths)

    @torch.no_grad()
    def score(self, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Log-probability of given hypotheses, CIF scaled as in training to the tokens of each: states [B, T, D], lengths [B],
        tokens [B, N, U], token_lengths [B, N] → [B, N]."""
        size, n = tokens.shape[:2]
        if tokens.shape[2] == 0:
            return states.new_zeros(size, n)
        boundaries = None
        if self.config.loss.boundary > 0:
            found = [ctc_boundaries(x.expand(n, -1, -1), length.expand(n), text, counts)
                     for x, length, text, counts in zip(self.ctc_log_probs(states), lengths, tokens, token_lengths)]
            boundaries = Boundaries(*(torch.cat(parts) for parts in zip(*found)))
        states, lengths = states.repeat_interleave(n, 0), lengths.repeat_interleave(n)
        tokens, token_lengths = tokens.flatten(0, 1), token_lengths.flatten()
        vectors = self.predictor(states, lengths, token_lengths, boundaries).vectors
        vectors = F.pad(vectors, (0, 0, 0, tokens.shape[1] - vectors.shape[1]))
        log_probs = self.decoder(vectors, token_lengths, states, lengths).float().log_softmax(-1)
        picked = log_probs.gather(2, tokens[..., None])[..., 0] * lengths_to_mask(token_lengths, tokens.shape[1])
        return picked.sum(1).unflatten(0, (size, n))

    def _decode(self, vectors: Tensor, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor,
                targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, U, V], and the targets that were not shown [B, U], the others -100."""
        ratio = self.config.glancing.ratio(self.step) if self.training else 0.0
        if ratio == 0:
            return self.decoder(vectors, token_lengths, states, lengths), targets
        with no_grad_pass(vectors.device):
            first = self.decoder(vectors, token_lengths, states, lengths)
        shown = glance(first, tokens, token_lengths, ratio)
        return self.decoder(vectors, token_lengths, states, lengths, tokens, shown), targets.masked_fill(shown, -100)


def build(config: ParaformerConfig, tokens: TokenIds) -> Paraformer:
    """A Paraformer over a vocabulary with CTC's blank.

    Raises:
        ConfigError: an encoder option that does not exist. ValueError: another kind of vocabulary.
    """
    check_tokens(tokens)
    return Paraformer(config)


SYSTEM = System(ParaformerConfig, build, graphs=("encoder", "parallel"))
