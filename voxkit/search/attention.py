"""Beam search over an autoregressive decoder, alone or jointly with CTC in one pass; rescoring of CTC n-best lists.

A decoder is an object with `init_state(memory, lengths) -> state` and `step(tokens [N], state) -> (log_probs [N, V], state)`,
whose state has `select(index)`; the search gives it its bos first. All utterances and hypotheses of a batch move together, token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from voxkit.search.ctc_prefix import CtcPrefixScorer
from voxkit.search.hypotheses import AttentionHypothesis, CtcHypothesis
from voxkit.search.scorer import Scorer

_INF = float("inf")
_SPARE = 3  # tokens that a hypothesis may have besides: of a short text the expectation is far off at times


class DecoderState(Protocol):
    """What a decoder keeps of N hypotheses; with coverage also `attention` [N, T], the last step's weights (heads averaged)."""

    def select(self, index: Tensor) -> DecoderState:
        """Hypotheses index [M], repeats allowed."""


class Decoder(Protocol):
    """What the searches need of a model: ids of the beginning and the end of a sentence, and scores. Those whose `alignment_heads` follow
    the audio also have `follow`, those with a token for `silence` also `quiet` (voxkit.decoders.whisper)."""

    bos: int
    eos: int
    alignment_heads: Any
    silence: int | None

    def init_state(self, memory: Tensor, lengths: Tensor) -> Any:
        """memory [B, T, D], lengths [B] → state of B empty hypotheses."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Last tokens [N] → log-probabilities of the next [N, V] and the state."""

    def limit(self, lengths: Tensor) -> Tensor:
        """How many tokens utterances of lengths [B] states may have, [B]."""

    def score(self, memory: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """Log-probabilities of whole texts, eos included: tokens [B, N, U] padded with 0, token_lengths [B, N] → [B, N]."""

    def attention_weights(self, tokens: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        """Where it looks while it says what follows each of tokens [B, U]: [layers, B, H, U, T]."""


@torch.no_grad()
def attention_beam(decoder: Decoder, memory: Tensor, lengths: Tensor, beam: int = 8, *, blank: int | None = 0,
                   forbidden: Collection[int] = (), nbest: int = 1, ctc_log_probs: Tensor | None = None, ctc_weight: float = 0.3,
                   scorer: Scorer | None = None, token_bonus: float = 0.0, length_power: float = 0.0, coverage: float = 0.0,
                   candidates: int | None = None, expected: Tensor | None = None, length_limit: float = 1.2,
                   max_tokens_per_frame: float = 1.0, most_tokens: Tensor | None = None,
                   patience: float = 10.0) -> list[list[AttentionHypothesis]]:
    """Search a batch.

    The score is (1 - ctc_weight) · attention + ctc_weight · CTC + scorer + token_bonus · min(tokens, expected), over
    (tokens + 1)^length_power.

    Args:
        memory: [B, T, D] encoder states, lengths [B].
        beam: hypotheses kept per utterance.
        blank: no token of the decoder, never given out (None where the decoder has no blank among its tokens); forbidden: others that
            stand for no text.
        ctc_log_probs: [B, T, V] over the same frames: joint CTC/attention decoding (Watanabe et al. 2017).
        scorer: language model, context graph.
        length_power: 0 none, 1 mean per token.
        coverage: weight of sum over frames of log(min(attention received, 1)) (Wu et al. 2016); the decoder state must show `attention`.
        candidates: tokens that scorer and CTC look at, per hypothesis; default 2 · beam.
        expected: [B] tokens that something else hears, such as CTC (`expected_tokens`); None: unknown. A decoder in a loop pays next to
            nothing for a token, and a bonus without end pays it for going on, so that the bonus counts for these alone (bounded reward:
            Yang, Huang and Ma 2018), and
        length_limit: a hypothesis ends at this many times as many, and a few more.
        max_tokens_per_frame: likewise, at this many tokens per encoder frame.
        most_tokens: [B] tokens that the decoder can say at the most; None: any number.
        patience: an utterance ends when the best unfinished hypothesis is this much worse than the best finished one (nats), or
            can no longer beat it.

    Returns:
        n-best per utterance, best first.
    """
    _check(memory, lengths, beam, ctc_log_probs, ctc_weight, expected)
    size, width, device = len(memory), beam, memory.device
    empty = lengths == 0
    lengths = lengths.clamp(min=1)
    limit = (lengths * max_tokens_per_frame).long().clamp(min=1)
    limit = limit if most_tokens is None else torch.minimum(limit, most_tokens)
    ctc_log_probs = ctc_log_probs if ctc_weight else None
    ctc_weight = ctc_weight if ctc_log_probs is not None else 0.0
    bos, eos = decoder.bos, decoder.eos
    most = max(scorer.most, 0.0) if scorer is not None else 0.0
    rewarded = torch.full(lengths.shape, _INF, device=device)
    if expected is not None:
        rewarded = expected.to(device).float()
        limit = torch.minimum(limit, (length_limit * rewarded + _SPARE).ceil().long())
    rows = torch.arange(size, device=device).repeat_interleave(width)
    offset = torch.arange(size, device=device)[:, None] * width
    state = decoder.init_state(memory, lengths)
    if coverage and hasattr(state, "watch"):
        state.watch = True  # else a decoder need not form its attention weights
    state = state.select(rows)
    ctc = CtcPrefixScorer(ctc_log_probs, lengths, blank or 0) if ctc_log_probs is not None else None
    ctc_state = ctc.init(width) if ctc is not None else None
    fused_state = scorer.init(size * width, device) if scorer is not None else None
    # scores of unfinished hypotheses [B, W], and their parts; slot 0 only at first
    alive = torch.full((size, width), -_INF, device=device)
    alive[:, 0] = 0.0
    attention, fused = torch.zeros(size, width, device=device), torch.zeros(size, width, device=device)
    tokens, token_scores = torch.zeros(size, width, 0, dtype=torch.long, device=device), torch.zeros(size, width, 0, device=device)
    last = torch.full((size * width,), bos, dtype=torch.long, device=device)
    covered = torch.zeros(size * width, memory.shape[1], device=device) if coverage else None
    pool = _Pool(size, width, nbest, device)
    open_items = ~empty
    for length in range(int(limit.max()) + 1):
        log_probs, state = decoder.step(last, state)
        log_probs = log_probs.float().view(size, width, -1)
        vocab = log_probs.shape[2]
        if covered is not None:
            covered = covered + _attention_of(state)
        ending = log_probs[..., eos]
        silent = sorted({i for i in (bos, eos, blank, *forbidden) if i is not None and i < vocab})
        choices = log_probs.index_fill(2, torch.tensor(silent, device=device), -_INF)
        best, chosen = choices.topk(min(candidates or 2 * width, vocab - len(silent)), dim=2)
        # continuing: [B, W, K]
        new_attention = attention[..., None] + best
        total = (1 - ctc_weight) * new_attention
        flat = chosen.flatten(0, 1)
        if ctc is not None:
            new_ctc = ctc.score(ctc_state, flat).float().view_as(best)
            total = total + ctc_weight * new_ctc
        new_fused = fused[..., None] + token_bonus * (rewarded - length).clamp(0, 1)[:, None, None]
        if scorer is not None:
            new_fused = new_fused + scorer.score(fused_state, flat).view_as(best)
        total = (total + new_fused).masked_fill((alive == -_INF)[..., None], -_INF)
        # ending: [B, W]
        parts = {"attention": attention + ending, "ctc": torch.zeros_like(alive), "fused": fused}
        if ctc is not None:
            parts["ctc"] = ctc.final(ctc_state).float().view_as(alive)
        if scorer is not None:
            parts["fused"] = fused + scorer.final(fused_state).view_as(fused)
        ended = (1 - ctc_weight) * parts["attention"] + ctc_weight * parts["ctc"] + parts["fused"]
        ended = ended.masked_fill((alive == -_INF) | ~open_items[:, None], -_INF)
        at_limit = (length >= limit)[:, None]
        total = total.masked_fill((at_limit | ~open_items[:, None])[..., None], -_INF)
        # an end counts where it would be in the beam
        threshold = torch.cat([ended, total.flatten(1)], 1).topk(width, 1).values[:, -1:]
        ended = ended.masked_fill((ended < threshold) & ~at_limit, -_INF)
        if covered is not None:
            mask = torch.arange(memory.shape[1], device=device)[None] < lengths[rows][:, None]
            seen = covered.clamp(1e-6, 1.0).log().masked_fill(~mask, 0.0).sum(1)
            ended = ended + coverage * seen.view_as(ended)
        pool.add(ended / (length + 1) ** length_power, tokens, token_scores, parts)
        # the beam moves on
        alive, index = total.flatten(1).topk(width, 1)
        left = limit - length - 1
        gain = most * (left + 1).clamp(min=1) + max(token_bonus, 0.0) * torch.minimum(rewarded - length - 1, left).clamp(min=0)
        open_items = open_items & pool.may_improve(alive, length + 1, limit, length_power, gain, patience)
        if not bool(open_items.any()):
            break
        slot = index.div(best.shape[2], rounding_mode="floor")
        move = (slot + offset).flatten()
        token = _pick(chosen, index)
        last = token.flatten()
        attention, fused = _pick(new_attention, index), _pick(new_fused.expand_as(best), index)
        tokens = torch.cat([tokens.gather(1, slot[..., None].expand(-1, -1, length)), token[..., None]], 2)
        token_scores = torch.cat([token_scores.gather(1, slot[..., None].expand(-1, -1, length)), _pick(best, index)[..., None]], 2)
        state = state.select(move)
        if ctc is not None:
            ctc_state = ctc.advance(ctc_state.select(move), last, _pick(new_ctc, index).flatten().double())
        if scorer is not None:
            fused_state = scorer.advance(scorer.select(fused_state, move), last)
        covered = covered[move] if covered is not None else None
    used = {"attention"} | ({"ctc"} if ctc is not None else set()) | ({"fused"} if scorer is not None or token_bonus else set())
    return [[AttentionHypothesis([], 0.0)] if none else pool.hypotheses(b, used) for b, none in enumerate(empty.tolist())]


class _Pool:
    """Finished hypotheses: the W best of each utterance."""

    def __init__(self, size: int, width: int, nbest: int, device: torch.device) -> None:
        self.nbest = min(nbest, width)
        self.scores = torch.full((size, width), -_INF, device=device)
        self.kept: list[list[tuple[list[int], list[float], dict[str, float]] | None]] = [[None] * width for _ in range(size)]

    def add(self, scores: Tensor, tokens: Tensor, token_scores: Tensor, parts: dict[str, Tensor]) -> None:
        """Hypotheses that end now: scores [B, W] (minus infinity: does not), tokens [B, W, U]."""
        width = scores.shape[1]
        self.scores, index = torch.cat([self.scores, scores], 1).topk(width, 1)
        for b in (index >= width).any(1).nonzero().flatten().tolist():
            row = []
            for i, score in zip(index[b].tolist(), self.scores[b].tolist()):
                if i < width or score == -_INF:
                    row.append(self.kept[b][i] if i < width else None)
                else:
                    w = i - width
                    row.append((tokens[b, w].tolist(), token_scores[b, w].tolist(), {k: float(v[b, w]) for k, v in parts.items()}))
            self.kept[b] = row

    def may_improve(self, alive: Tensor, length: int, limit: Tensor, power: float, gain: Tensor, patience: float) -> Tensor:
        """[B]: whether the unfinished hypotheses with scores alive [B, W], to which more tokens and the end add `gain` [B] at the most, can
        still matter."""
        best = alive[:, 0]
        # nothing but the bonus and the scorer adds to a score, and the longest hypothesis has the largest divisor
        bound = best + gain
        bound = torch.where(bound < 0, bound / (limit + 1.0) ** power, bound)
        beatable = bound > self.scores[:, self.nbest - 1]
        hopeful = best / (length + 1) ** power > self.scores[:, 0] - patience / (length + 1) ** power
        return beatable & hopeful & (best > -_INF)

    def hypotheses(self, b: int, used: set[str]) -> list[AttentionHypothesis]:
        """The n-best of utterance b."""
        out = [AttentionHypothesis(kept[0], score, kept[1], parts={k: v for k, v in kept[2].items() if k in used})
               for kept, score in zip(self.kept[b][: self.nbest], self.scores[b].tolist()) if kept is not None]
        return out or [AttentionHypothesis([], -_INF)]


@torch.no_grad()
def attention_rescore(nbest: list[list[CtcHypothesis]], memory: Tensor, lengths: Tensor,
                      score_sequences: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], *, ctc_weight: float = 0.3,
                      token_bonus: float = 0.0, length_power: float = 0.0) -> list[list[AttentionHypothesis]]:
    """Rerank CTC n-best lists with the decoder: (1 - ctc_weight) · attention + ctc_weight · CTC + what scorers gave in the first pass.

    Args:
        score_sequences: (memory [B, T, D], lengths [B], tokens [B, N, U] padded with 0, token_lengths [B, N]) → [B, N]
            log-probabilities, eos included.
    """
    _check(memory, lengths, 1, None, ctc_weight)
    if len(nbest) != len(memory):
        raise ValueError(f"{len(nbest)} n-best lists for {len(memory)} utterances")
    count = max((len(row) for row in nbest), default=0)
    width = max((len(h.tokens) for row in nbest for h in row), default=0)
    if count == 0:
        return [[] for _ in nbest]
    tokens = torch.zeros(len(nbest), count, max(width, 1), dtype=torch.long)
    token_lengths = torch.zeros(len(nbest), count, dtype=torch.long)
    for b, row in enumerate(nbest):
        for n, h in enumerate(row):
            tokens[b, n, : len(h.tokens)] = torch.tensor(h.tokens, dtype=torch.long)
            token_lengths[b, n] = len(h.tokens)
    scores = score_sequences(memory, lengths.clamp(min=1), tokens.to(memory.device), token_lengths.to(memory.device)).tolist()
    out = []
    for row, attention in zip(nbest, scores):
        ranked = []
        for h, a in zip(row, attention):
            fused = h.score - h.ctc_score if h.score > -_INF else 0.0
            heard = ctc_weight * h.ctc_score if ctc_weight else 0.0  # not 0 · -inf, of a text that CTC cannot say
            total = (1 - ctc_weight) * a + heard + fused + token_bonus * len(h.tokens)
            total /= (len(h.tokens) + 1) ** length_power
            parts = {"attention": a, "ctc": h.ctc_score, "fused": fused}
            ranked.append(AttentionHypothesis(h.tokens, total, list(h.token_log_probs), list(h.frames), parts))
        out.append(sorted(ranked, key=lambda x: -x.score))
    return out


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """x [B, W, K] at index [B, W] into W · K."""
    return x.flatten(1).gather(1, index)


def _attention_of(state: Any) -> Tensor:
    weights = getattr(state, "attention", None)
    if weights is None:
        raise ValueError("coverage needs a decoder whose state shows its attention weights as `attention` [N, T]; this one does not: "
                         "set coverage to 0")
    return weights


def _check(memory: Tensor, lengths: Tensor, beam: int, ctc_log_probs: Tensor | None, ctc_weight: float,
           expected: Tensor | None = None) -> None:
    if memory.dim() != 3 or lengths.shape != memory.shape[:1]:
        raise ValueError(f"memory {tuple(memory.shape)} and lengths {tuple(lengths.shape)}: [B, T, D] and [B] are needed")
    if beam < 1:
        raise ValueError(f"beam is {beam}: it must be at least 1")
    if not 0 <= ctc_weight <= 1:
        raise ValueError(f"ctc_weight is {ctc_weight}: a share between 0 and 1")
    if expected is not None and expected.shape != lengths.shape:
        raise ValueError(f"expected has the shape {tuple(expected.shape)}: what is needed is a number of tokens for each of "
                         f"{len(lengths)} utterances")
    if ctc_log_probs is not None and ctc_log_probs.shape[:2] != memory.shape[:2]:
        raise ValueError(f"ctc_log_probs has {tuple(ctc_log_probs.shape[:2])} utterances and frames, memory {tuple(memory.shape[:2])}: "
                         "joint decoding needs both from the same encoder states")
