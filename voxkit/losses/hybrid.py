"""Hybrid CTC/attention loss (Watanabe et al. 2017): λ·CTC + (1-λ)·cross-entropy, with λ moving over a warm-up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class HybridLossConfig:
    """Weights of the hybrid loss.

    Attributes:
        ctc, attention: weights after the warm-up; a head whose weights are 0 at both ends is left out.
        start_ctc, start_attention: weights at step 0; the two sets are mixed linearly over `warmup_steps`.
        warmup_steps: optimizer steps.
        mwer: weight of minimum word error training on n-best lists (fine-tuning of a model that is trained already; 0 = none), added to
            the other two; mwer_nbest: hypotheses in a list.
        intermediate: share of the CTC loss that is the mean of those half-way up (model.intermediate_ctc.after says where); 0 = none.
        consistency: weight of the consistency loss between two masked views of each batch (losses/consistency.py; its paper has 0.2, with
            wider masks and half the epochs); every other loss is then taken over both views. 0 = one view.
        ctc_by: torch, or k2 (its CTC topology).
        transducer: weight of the transducer's loss beside the others (model.transducer, model.transducer_loss); 0 = no transducer.
        label_smoothing: share of the target spread over the vocabulary, in the cross-entropy.
    """

    ctc: float = 0.3
    attention: float = 0.7
    start_ctc: float = 0.4
    start_attention: float = 0.6
    warmup_steps: int = 5000
    label_smoothing: float = 0.1
    intermediate: float = 0.0
    consistency: float = 0.0
    mwer: float = 0.0
    mwer_nbest: int = 4
    ctc_by: str = "torch"
    transducer: float = 0.0

    def problems(self) -> list[str]:
        weights = ("ctc", "attention", "start_ctc", "start_attention", "consistency", "mwer", "transducer")
        found = [f"{name}: {getattr(self, name)} is negative" for name in weights if getattr(self, name) < 0]
        if self.ctc + self.attention + self.transducer == 0:
            found.append("ctc: with attention and transducer 0 too, nothing would be trained")
        for name in ("intermediate", "consistency", "mwer"):
            if getattr(self, name) > 0 and not self.uses_ctc:
                found.append(f"{name}: it is taken from the CTC head, and with ctc and start_ctc 0 there is none")
        if self.ctc_by not in ("torch", "k2"):
            found.append(f"ctc_by: {self.ctc_by!r} is none of torch, k2")
        if self.mwer_nbest < 2:
            found.append(f"mwer_nbest: {self.mwer_nbest} leaves nothing to choose between; give 2 or more")
        if not 0 <= self.intermediate < 1:
            found.append(f"intermediate: {self.intermediate} is not in [0, 1); it is a share of the CTC loss")
        if not 0 <= self.label_smoothing < 1:
            found.append(f"label_smoothing: {self.label_smoothing} is not in [0, 1)")
        return found

    @property
    def uses_ctc(self) -> bool:
        """Whether there is a CTC head."""
        return self.ctc > 0 or self.start_ctc > 0

    def weights(self, step: int) -> tuple[float, float]:
        """(ctc, attention) at an optimizer step."""
        done = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return (self.start_ctc + (self.ctc - self.start_ctc) * done,
                self.start_attention + (self.attention - self.start_attention) * done)


def ctc_loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """CTC (Graves et al. 2006), blank 0, per utterance.

    Args:
        log_probs: [B, T, V], computed in float32; lengths: [B].
        tokens: [B, U] padded with anything; token_lengths: [B].

    Returns:
        [B] negative log-likelihoods in nats; infinite where the text cannot fit into the frames (the loader drops those).
    """
    return F.ctc_loss(log_probs.float().transpose(0, 1), tokens, lengths, token_lengths, blank=0, reduction="none")


def label_smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """logits [B, U, V], targets [B, U] (-100 = padding) → [B], summed over the tokens of each utterance, in nats."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none", label_smoothing=smoothing)
    return losses.sum(-1)


@torch.no_grad()
def correct_tokens(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of the targets [B, U] that are no padding (-100): how many are the argmax of logits [B, U, V], and how many there are."""
    valid = targets != -100
    return ((logits.argmax(-1) == targets) & valid).sum(), valid.sum()
