"""CTC by k2's topology, as an option. Without k2 it says what to install."""

from __future__ import annotations

import torch
from torch import Tensor

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
