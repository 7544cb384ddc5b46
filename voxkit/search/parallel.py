"""Searches over a parallel decoder, whose tokens do not depend on each other: greedy, and a beam for what does depend on the whole text,
a language model and CTC."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.search.hypotheses import ParallelHypothesis
from voxkit.search.scorer import Scorer

_INF = float("inf")


def _forbid(log_probs: Tensor, forbidden: Sequence[int]) -> Tensor:
    return log_probs.index_fill(-1, torch.tensor(list(forbidden), device=log_probs.device, dtype=torch.long), -_INF)


@torch.no_grad()
def parallel_greedy(log_probs: Tensor, lengths: Tensor, forbidden: Sequence[int] = ()) -> list[ParallelHypothesis]:
    """The best token of every place.

    Args:
        log_probs: [B, U, V] normalized; lengths: [B] tokens.
        forbidden: ids that stand for no text, and are never said.
    """
    best, tokens = _forbid(log_probs.float(), forbidden).max(-1) if log_probs.shape[1] else (log_probs[..., 0], log_probs[..., 0].long())
    out = []
    for row, scores, n in zip(tokens.tolist(), best.tolist(), lengths.tolist()):
        total = sum(scores[:n])
        out.append(ParallelHypothesis(row[:n], total, scores[:n], {"decoder": total}))
    return out


@torch.no_grad()
def parallel_beam(log_probs: Tensor, lengths: Tensor, beam: int = 10, *, scorer: Scorer | None = None, nbest: int = 1,
                  candidates: int | None = None, forbidden: Sequence[int] = (), blank: int = 0,
                  ctc_log_probs: Tensor | None = None, ctc_lengths: Tensor | None = None, ctc_weight: float = 0.3,
                  ) -> list[list[ParallelHypothesis]]:
    """From left to right over the places, `beam` hypotheses kept; in the end those are weighed with CTC.

    The score is (1 - ctc_weight) · decoder + ctc_weight · CTC + scorer; while the beam moves CTC does not count yet. Without scorer the
    beam is exact: it holds the n best texts under the decoder.

    Args:
        log_probs: [B, U, V] normalized; lengths: [B] tokens.
        scorer: language model, phrases, bonus per token.
        candidates: tokens looked at in each place; default 2 · beam. forbidden: as of `parallel_greedy`.
        ctc_log_probs, ctc_lengths: [B, T, V] and [B] of the same audio, `blank` its id there; None = no CTC.

    Returns:
        n-best lists, the best first.

    Raises:
        ValueError: a beam below 1, or a CTC weight outside of [0, 1].
    """
    if beam < 1:
        raise ValueError(f"a beam of {beam} keeps no hypothesis; give 1 or more")
    if not 0 <= ctc_weight <= 1:
        raise ValueError(f"CTC weight {ctc_weight} is not in [0, 1]")
    device, (size, places, vocab) = log_probs.device, log_probs.shape
    decoder_weight = 1.0 if ctc_log_probs is None else 1 - ctc_weight
    steering = decoder_weight or 1.0  # CTC alone decides in the end; the decoder still proposes
    log_probs = _forbid(log_probs.float(), forbidden)
    k = min(candidates or 2 * beam, vocab - len(set(forbidden)))
    scores = log_probs.new_full((size, beam), -_INF)
    scores[:, 0] = 0.0
    fused, tokens = torch.zeros_like(scores), torch.zeros(size, beam, 0, dtype=torch.long, device=device)
    state = scorer.init(size * beam, device) if scorer is not None else None
    rows = torch.arange(size, device=device)[:, None]
    for u in range(places):
        top, ids = log_probs[:, u].topk(k)  # [B, k]
        running = u < lengths
        top = top.masked_fill(~running[:, None], -_INF)
        top[:, 0] = top[:, 0].masked_fill(~running, 0.0)  # a finished one goes on as it is
        added = top.new_zeros(size, beam, k)
        if scorer is not None:
            every = ids[:, None].expand(-1, beam, -1)
            added = scorer.score(state, every.flatten(0, 1)).view(size, beam, k).to(top.dtype) * running[:, None, None]
        total = (steering * (scores[..., None] + top[:, None]) + fused[..., None] + added).flatten(1)
        place = total.topk(beam).indices
        source, which = place // k, place % k
        chosen = ids.gather(1, which).masked_fill(~running[:, None], -1)
        scores = scores.gather(1, source) + top.gather(1, which)
        fused = (fused[..., None] + added).flatten(1).gather(1, place)
        tokens = torch.cat([tokens.gather(1, source[..., None].expand(-1, -1, u)), chosen[..., None]], dim=2)
        if scorer is not None:
            state = scorer.advance(scorer.select(state, (source + rows * beam).flatten()), chosen.flatten())
    if scorer is not None:
        fused = fused + scorer.final(state).view(size, beam).to(fused.dtype)
    total = (decoder_weight * scores if decoder_weight else scores.masked_fill(scores > -_INF, 0.0)) + fused
    ctc = torch.zeros_like(total)
    if ctc_log_probs is not None:
        assert ctc_lengths is not None
        ctc = _ctc_score(ctc_log_probs, ctc_lengths, tokens, lengths, blank)
        total = total + ctc_weight * ctc if ctc_weight else total
    order = total.argsort(dim=1, descending=True, stable=True)[:, :nbest]
    out = []
    for b in range(size):
        n = int(lengths[b])
        row = []
        for w in order[b].tolist():
            if scores[b, w] > -_INF:
                ids = tokens[b, w, :n]
                parts = {"decoder": float(scores[b, w]), "ctc": float(ctc[b, w]), "fused": float(fused[b, w])}
                said = log_probs[b, :n].gather(1, ids[:, None])[:, 0].tolist()
                row.append(ParallelHypothesis(ids.tolist(), float(total[b, w]), said, parts))
        out.append(row)
    return out


def _ctc_score(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int) -> Tensor:
    """log P(tokens) under CTC: log_probs [B, T, V], tokens [B, W, U] → [B, W]; -1e4 where a text does not fit into the frames."""
    size, beam, places = tokens.shape
    valid = lengths_to_mask(token_lengths, places)[:, None]
    spread = log_probs.float().repeat_interleave(beam, 0).transpose(0, 1)
    losses = F.ctc_loss(spread, tokens.masked_fill(~valid, 0).flatten(0, 1), lengths.repeat_interleave(beam),
                        token_lengths.repeat_interleave(beam), blank=blank, reduction="none")
    return -losses.clamp(max=1e4).view(size, beam)
