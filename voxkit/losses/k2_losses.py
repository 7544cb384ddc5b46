"""Losses of k2, as options: CTC over its topology, and the pruned transducer (Kuang et al. 2022). Without k2 they say what to install."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxkit.masks import lengths_to_mask
from voxkit.ops.inference import outside_inference_mode
from voxkit.optional import require


@outside_inference_mode
def k2_ctc_loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, output_beam: float = 10.0) -> Tensor:
    """CTC by k2's topology, blank 0: log_probs [B, T, V], lengths [B], tokens [B, U], token_lengths [B] → [B] in nats."""
    k2 = require("k2", why="loss.ctc_by=k2")
    order = lengths.argsort(descending=True).cpu()
    segments = torch.stack([order, torch.zeros_like(order), lengths.cpu()[order]], 1).to(torch.int32)
    rows = [tokens[b, : token_lengths[b]].tolist() for b in order.tolist()]
    graph = k2.ctc_graph(rows, modified=False, device=log_probs.device)
    loss = k2.ctc_loss(decoding_graph=graph, dense_fsa_vec=k2.DenseFsaVec(log_probs.float(), segments), output_beam=output_beam,
                       reduction="none", use_double_scores=True)
    return torch.empty_like(loss).scatter(0, order.to(loss.device), loss)


@dataclass
class TransducerConfig:
    """Attributes: dim: of predictor and joiner; context: tokens the predictor sees; prune_range: symbols per frame kept; simple_scale:
    weight of the simple loss beside the pruned one; lm_scale, am_scale: smoothing of the simple loss."""

    dim: int = 256
    context: int = 2
    prune_range: int = 5
    simple_scale: float = 0.5
    lm_scale: float = 0.25
    am_scale: float = 0.0

    def problems(self) -> list[str]:
        least = {"dim": 1, "context": 1, "prune_range": 2}  # one symbol a frame would leave no way from one symbol to the next
        return [f"{name}: {getattr(self, name)} is below {n}" for name, n in least.items() if getattr(self, name) < n]


class PrunedTransducer(nn.Module):
    """A stateless predictor (Ghodsi et al. 2020), a joiner, and the pruned loss over both; training alone needs it, and k2 for it.

    Args:
        vocab_size: V, blank 0.
        encoder_dim: width of the states.
    """

    def __init__(self, config: TransducerConfig, vocab_size: int, encoder_dim: int) -> None:
        super().__init__()
        d = config.dim
        self.config = config
        self.embedding = nn.Embedding(vocab_size, d)
        self.context = nn.Conv1d(d, d, config.context, groups=d, bias=False)
        self.simple_am, self.simple_lm = nn.Linear(encoder_dim, vocab_size), nn.Linear(d, vocab_size)
        self.join_am, self.join_lm, self.output = nn.Linear(encoder_dim, d), nn.Linear(d, d), nn.Linear(d, vocab_size)

    def predict(self, tokens: Tensor) -> Tensor:
        """tokens [B, U] → [B, U + 1, D], each from the `context` tokens before it."""
        x = self.embedding(F.pad(tokens, (self.config.context, 0))).transpose(1, 2)
        return self.context(x).transpose(1, 2).relu()

    @outside_inference_mode
    def loss(self, states: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """states [B, T, D], tokens [B, U] → sum over the batch, in nats."""
        k2: Any = require("k2", why="the pruned transducer loss (loss.transducer)")
        config = self.config
        tokens = tokens.masked_fill(~lengths_to_mask(token_lengths, tokens.shape[1]), 0)
        needed = (token_lengths - 1).clamp(min=0).div(lengths, rounding_mode="floor") + 2  # with fewer the last token is out of reach
        symbols = max(config.prune_range, int(needed.max()))
        tokens = F.pad(tokens, (0, max(0, symbols - tokens.shape[1])))  # k2 prints a warning where the range is wider
        boundary = torch.zeros(len(tokens), 4, dtype=torch.int64, device=states.device)
        boundary[:, 2], boundary[:, 3] = token_lengths, lengths
        predicted = self.predict(tokens)
        with torch.autocast(states.device.type, enabled=False):
            simple, (px, py) = k2.rnnt_loss_smoothed(
                lm=self.simple_lm(predicted.float()), am=self.simple_am(states.float()), symbols=tokens, termination_symbol=0,
                lm_only_scale=config.lm_scale, am_only_scale=config.am_scale, boundary=boundary, reduction="sum", return_grad=True)
        ranges = k2.get_rnnt_prune_ranges(px_grad=px, py_grad=py, boundary=boundary, s_range=symbols)
        am, lm = k2.do_rnnt_pruning(am=self.join_am(states), lm=self.join_lm(predicted), ranges=ranges)
        logits = self.output(torch.tanh(am + lm))
        with torch.autocast(states.device.type, enabled=False):
            pruned = k2.rnnt_loss_pruned(logits=logits.float(), symbols=tokens, ranges=ranges, termination_symbol=0, boundary=boundary,
                                         reduction="sum")
        return config.simple_scale * simple + pruned
