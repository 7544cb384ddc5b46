"""The transducer loss (Graves 2012): minus log of the sum over all alignments, by k2 over the likely ones (pruned), else over all of them.

Beside it stands the loss of a joiner that only adds (Kuang et al. 2022): cheap, it finds the alignments early in training, and k2's pruned
loss looks only where it finds them. Without k2 the joiner's scores are formed a piece at a time and again in the backward pass, so that
memory holds one piece and not [B, T, U + 1, V].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from voxkit.masks import lengths_to_mask
from voxkit.ops.inference import outside_inference_mode
from voxkit.optional import available, require

_NEVER = -1e9  # log-probability of a label after the last one; minus infinity makes NaN of its gradient
BACKENDS = ("auto", "k2", "torchaudio")


class TransducerHead(Protocol):
    """What the loss needs of a head (`voxkit.decoders.transducer.Transducer`)."""

    blank: int
    joiner: Any
    simple_am_proj: Callable[[Tensor], Tensor]
    simple_lm_proj: Callable[[Tensor], Tensor]

    def decode(self, tokens: Tensor) -> Tensor:
        """tokens [B, U] → outputs before each and after the last [B, U + 1, D]."""


@dataclass
class TransducerLossConfig:
    """Attributes:
    by: k2 (pruned), torchaudio (over everything), or auto: k2 where it can be imported, else torchaudio.
    simple_scale: weight of the simple loss after the warm-up; it starts at 1.
    warmup_steps: optimizer steps over which the weights of the simple loss and of the joiner's (0.1 to 1) move.
    lm_scale, am_scale: shares of the simple loss that look at the decoder alone and at the states alone.
    prune_range: symbols a frame that k2 keeps.
    most_scores: frames · symbols · vocabulary that the joiner forms at a time (torchaudio); 4 bytes each, a few times over.
    """

    by: str = "auto"
    simple_scale: float = 0.5
    warmup_steps: int = 2000
    lm_scale: float = 0.25
    am_scale: float = 0.0
    prune_range: int = 5
    most_scores: int = 20_000_000

    def problems(self) -> list[str]:
        found = [] if self.by in BACKENDS else [f"by: {self.by!r} is none of {', '.join(BACKENDS)}"]
        # one symbol a frame would leave no way from one symbol to the next
        least = {"prune_range": 2, "most_scores": 1, "warmup_steps": 0, "simple_scale": 0, "lm_scale": 0, "am_scale": 0}
        found += [f"{name}: {getattr(self, name)} is below {n}" for name, n in least.items() if getattr(self, name) < n]
        if self.lm_scale + self.am_scale > 1:
            found.append(f"lm_scale: {self.lm_scale} and am_scale {self.am_scale} are shares, together at most 1")
        return found

    @property
    def uses_k2(self) -> bool:
        """Whether k2 computes it here."""
        return self.by == "k2" or (self.by == "auto" and available("k2"))

    def weights(self, step: int) -> tuple[float, float]:
        """(simple, joiner) at an optimizer step."""
        done = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return 1.0 - done * (1.0 - self.simple_scale), 0.1 + 0.9 * done


class TransducerLosses(NamedTuple):
    """Nats, summed over the batch. total: weighted; simple, joined: not."""

    total: Tensor
    simple: Tensor
    joined: Tensor


def transducer_loss(head: TransducerHead, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor,
                    config: TransducerLossConfig, step: int) -> TransducerLosses:
    """Both losses of a batch.

    Args:
        states: [B, T, D] with lengths [B]; tokens: [B, U] without blanks, with token_lengths [B]; padding is anything.
        step: of the optimizer.

    Raises:
        MissingPackage: k2 is asked for, and not there.
    """
    tokens = tokens.masked_fill(~lengths_to_mask(token_lengths, tokens.shape[1]), head.blank)
    states, tokens = states[:, : int(lengths.max())], tokens[:, : int(token_lengths.max())]
    by = _pruned if config.uses_k2 else _whole
    simple, joined = by(head, states, lengths, tokens, token_lengths, config)
    simple_weight, joined_weight = config.weights(step)
    return TransducerLosses(simple_weight * simple + joined_weight * joined, simple.detach(), joined.detach())


def lattice_loss(blanks: Tensor, labels: Tensor, lengths: Tensor, token_lengths: Tensor) -> Tensor:
    """Sum over alignments, given what each step of one costs.

    Args:
        blanks: [B, T, U + 1] log-probabilities of blank (on to the next frame), with lengths [B].
        labels: [B, T, U + 1] of the next token; the last one of a text is not looked at. token_lengths: [B].

    Returns:
        [B] negative log-likelihoods in nats.
    """
    from torchaudio.functional import rnnt_loss

    none_left = torch.arange(labels.shape[2], device=labels.device) >= token_lengths[:, None, None]
    # two scores a node are all that the lattice needs, so that it is given a vocabulary of blank and "the next token"
    steps = torch.stack((blanks, labels.masked_fill(none_left, _NEVER)), dim=-1).float().contiguous()
    targets = torch.ones(len(steps), steps.shape[2] - 1, dtype=torch.int32, device=steps.device)
    return rnnt_loss(steps, targets, lengths.int(), token_lengths.int(), blank=0, reduction="none", fused_log_softmax=False)


def joined_loss(head: TransducerHead, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, most_scores: int) -> Tensor:
    """Over all alignments, by the joiner (arguments: `transducer_loss`): [B] in nats, with memory for `most_scores` scores."""
    joiner = head.joiner
    heard, said = joiner.encoder_proj(states), joiner.decoder_proj(head.decode(tokens))
    following = F.pad(tokens, (0, 1), value=head.blank)

    def scores(heard: Tensor, said: Tensor, rows: Tensor, frames: Tensor) -> Tensor:
        """Of N frames of the batch: log-probabilities of blank and of the next token [N, U + 1, 2]."""
        logits = joiner(heard[rows, frames][:, None], said[rows]).float()
        chosen = torch.stack((logits[..., head.blank], logits.gather(2, following[rows][..., None])[..., 0]), dim=-1)
        return chosen - logits.logsumexp(-1, keepdim=True)

    item, frame = lengths_to_mask(lengths, states.shape[1]).nonzero(as_tuple=True)  # no scores for padding
    width = max(joiner.output_linear.out_features, heard.shape[2])
    size = max(1, most_scores // (said.shape[1] * width))
    parts = []
    for rows, frames in zip(item.split(size), frame.split(size)):
        piece = (heard, said, rows, frames)
        parts.append(scores(*piece) if len(item) <= size else checkpoint(scores, *piece, use_reentrant=False))
    steps = torch.zeros(*states.shape[:2], said.shape[1], 2, device=states.device).index_put((item, frame), torch.cat(parts))
    return lattice_loss(steps[..., 0], steps[..., 1], lengths, token_lengths)


def simple_loss(am: Tensor, lm: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int = 0, lm_scale: float = 0.0,
                am_scale: float = 0.0) -> Tensor:
    """Over all alignments, by scores that are added: [B] in nats.

    Args:
        am: [B, T, V] of the states, with lengths [B]; lm: [B, U + 1, V] of the decoder; unnormalized.
        tokens: [B, U], with token_lengths [B].
        lm_scale, am_scale: shares of the log-probabilities by lm alone, and by am with the batch's mean distribution of lm.
    """
    with torch.autocast(am.device.type, enabled=False):
        blanks, labels = _simple_scores(am.float(), lm.float(), lengths, tokens, token_lengths, blank, lm_scale, am_scale)
    return lattice_loss(blanks, labels, lengths, token_lengths)


def _simple_scores(am: Tensor, lm: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int, lm_scale: float,
                   am_scale: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank and of the next token, [B, T, U + 1] each (arguments: `simple_loss`)."""
    am_top, lm_top = am.detach().amax(2, keepdim=True), lm.detach().amax(2, keepdim=True)
    am_exp, lm_exp = (am - am_top).exp(), (lm - lm_top).exp()
    following = F.pad(tokens, (0, 1), value=blank)
    index = following[:, None].expand(-1, am.shape[1], -1)
    # log of the sum over the vocabulary of both, without forming [B, T, U + 1, V]
    norm = am_exp.bmm(lm_exp.transpose(1, 2)).clamp(min=torch.finfo(torch.float32).tiny).log() + am_top + lm_top.transpose(1, 2)
    am_next, lm_next = am.gather(2, index), lm.gather(2, following[..., None]).transpose(1, 2)
    blanks, labels = am[..., blank, None] + lm[:, None, :, blank] - norm, am_next + lm_next - norm
    if lm_scale or am_scale:
        whole = 1.0 - lm_scale - am_scale
        lm_log = lm - lm.logsumexp(2, keepdim=True)
        lm_blanks, lm_labels = lm_log[:, None, :, blank], lm_log.gather(2, following[..., None]).transpose(1, 2)
        valid = lengths_to_mask(token_lengths + 1, lm.shape[1])
        mean = lm_log.exp()[valid].mean(0).clamp(min=torch.finfo(torch.float32).tiny).log()
        am_log = am + mean
        am_log = am_log - am_log.logsumexp(2, keepdim=True)
        blanks = whole * blanks + lm_scale * lm_blanks + am_scale * am_log[..., blank, None]
        labels = whole * labels + lm_scale * lm_labels + am_scale * am_log.gather(2, index)
    return blanks, labels


def _whole(head: TransducerHead, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor,
           config: TransducerLossConfig) -> tuple[Tensor, Tensor]:
    simple = simple_loss(head.simple_am_proj(states), head.simple_lm_proj(head.decode(tokens)), lengths, tokens, token_lengths, head.blank,
                         config.lm_scale, config.am_scale)
    return simple.sum(), joined_loss(head, states, lengths, tokens, token_lengths, config.most_scores).sum()


@outside_inference_mode
def _pruned(head: TransducerHead, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor,
            config: TransducerLossConfig) -> tuple[Tensor, Tensor]:
    k2: Any = require("k2", why="the pruned transducer loss (model.transducer_loss.by=k2)")
    needed = (token_lengths - 1).clamp(min=0).div(lengths, rounding_mode="floor") + 2  # with fewer the last token is out of reach
    symbols = max(config.prune_range, int(needed.max()))
    tokens = F.pad(tokens, (0, max(0, symbols - tokens.shape[1])), value=head.blank)  # k2 prints a warning where the range is wider
    boundary = torch.zeros(len(tokens), 4, dtype=torch.int64, device=states.device)
    boundary[:, 2], boundary[:, 3] = token_lengths, lengths
    decoded = head.decode(tokens)
    with torch.autocast(states.device.type, enabled=False):
        simple, (px, py) = k2.rnnt_loss_smoothed(
            lm=head.simple_lm_proj(decoded.float()), am=head.simple_am_proj(states.float()), symbols=tokens, termination_symbol=head.blank,
            lm_only_scale=config.lm_scale, am_only_scale=config.am_scale, boundary=boundary, reduction="sum", return_grad=True)
    ranges = k2.get_rnnt_prune_ranges(px_grad=px, py_grad=py, boundary=boundary, s_range=symbols)
    heard, said = k2.do_rnnt_pruning(am=head.joiner.encoder_proj(states), lm=head.joiner.decoder_proj(decoded), ranges=ranges)
    logits = head.joiner(heard, said)
    with torch.autocast(states.device.type, enabled=False):
        joined = k2.rnnt_loss_pruned(logits=logits.float(), symbols=tokens, ranges=ranges, termination_symbol=head.blank, boundary=boundary,
                                     reduction="sum")
    return simple, joined
