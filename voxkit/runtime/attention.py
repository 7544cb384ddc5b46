"""Beam search over an exported decoder, alone or jointly with CTC: the result of voxkit.search.attention, one utterance at a time.

The score is (1 - ctc_weight) · attention + ctc_weight · CTC + scorer + token_bonus · min(tokens, expected), over
(tokens + 1)^length_power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from voxkit.runtime.ctc_prefix import CtcPrefixScorer
from voxkit.runtime.decoder import DecoderState, OnnxDecoder
from voxkit.runtime.scorers import TokenScorer
from voxkit.search.hypotheses import AttentionHypothesis, CtcHypothesis

_SPARE = 3  # tokens that a hypothesis may have besides: of a short text the expectation is far off at times


@dataclass(frozen=True)
class BeamOptions:
    """Attributes:
    beam: hypotheses kept. forbidden: ids that are never said.
    ctc_weight: of CTC's prefix scores, where there are any.
    token_bonus: per token, for so many as CTC expects; length_limit: how many times as many there may be at the most.
    length_power: 0 none, 1 mean per token. coverage: weight of how much of the audio was attended to.
    candidates: tokens that scorer and CTC look at, per hypothesis; default 2 · beam.
    patience: nats by which an unfinished hypothesis may be behind the best finished one.
    """

    beam: int = 10
    forbidden: frozenset[int] = frozenset()
    ctc_weight: float = 0.3
    token_bonus: float = 0.0
    length_limit: float = 1.2
    length_power: float = 0.0
    coverage: float = 0.0
    candidates: int | None = None
    patience: float = 10.0


def expected_tokens(log_probs: np.ndarray, blank: int = 0) -> float:
    """How many tokens CTC hears in log_probs [T, V], in the mean over all its paths (voxkit.search.ctc_length)."""
    p = np.exp(log_probs.astype(np.float32))
    p[:, blank] = 0.0
    return float(p.sum() - (p[1:] * p[:-1]).sum())


def attention_beam(decoder: OnnxDecoder, states: np.ndarray, options: BeamOptions, *, log_probs: np.ndarray | None = None,
                   scorer: TokenScorer | None = None, most: float = 0.0, expected: float | None = None, frames: int | None = None,
                   nbest: int = 1) -> list[AttentionHypothesis]:
    """Search one utterance.

    Args:
        states: [T, D] of the encoder; frames: of these that are audio, None: all.
        log_probs: CTC's [T, V] over the same frames, for joint decoding; None: the decoder alone.
        scorer: language model, phrases; most: what one token, or the end, can get from it at the most.
        expected: tokens that CTC hears; None: unknown, and neither bonus nor length is bounded by it.

    Returns:
        n-best, the best first.
    """
    if not len(states):
        return [AttentionHypothesis([], 0.0)]
    frames = len(states) if frames is None else frames
    limit = max(1, decoder.limit(frames))
    rewarded = math.inf
    if expected is not None:
        rewarded = expected
        limit = min(limit, math.ceil(options.length_limit * expected + _SPARE)) if options.length_limit < math.inf else limit
    ctc = CtcPrefixScorer(log_probs) if log_probs is not None and options.ctc_weight else None
    ctc_weight = options.ctc_weight if ctc is not None else 0.0
    beam = _Beam(decoder.init_state(states[None], np.array([frames])), ctc, scorer)
    last, parents = np.array([[[decoder.bos]]], dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    finished: list[AttentionHypothesis] = []
    covered = np.zeros((1, len(states)))
    for length in range(limit + 1):
        following, beam.state = decoder.step(last, beam.state, parents)
        following = following[0, :, 0].astype(np.float64)
        if options.coverage:
            assert beam.state.attention is not None  # a step says where it looked
            covered = covered[parents[0]] + beam.state.attention[0, :, 0]
        # continuing: [W, K]
        choices = following.copy()
        choices[:, [decoder.bos, decoder.eos, *options.forbidden]] = -np.inf
        count = min(options.candidates or 2 * options.beam, choices.shape[1])
        chosen = np.argpartition(-choices, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(choices, chosen, 1)
        attention = beam.attention[:, None] + best
        total = (1 - ctc_weight) * attention
        by_ctc = None
        if ctc is not None:
            assert beam.ctc is not None
            by_ctc = ctc.score(beam.ctc, chosen)
            total = total + ctc_weight * by_ctc
        gains, scored = beam.gains(chosen)
        fused = np.broadcast_to(beam.fused[:, None] + options.token_bonus * min(max(rewarded - length, 0.0), 1.0) + gains, best.shape)
        total = total + fused
        total[best == -np.inf] = -np.inf
        # ending: [W]
        ending = {"attention": beam.attention + following[:, decoder.eos], "fused": beam.fused + beam.ends()}
        ended = (1 - ctc_weight) * ending["attention"] + ending["fused"]
        if ctc is not None:
            assert beam.ctc is not None
            ending["ctc"] = ctc.final(beam.ctc)
            ended = ended + ctc_weight * ending["ctc"]
        at_limit = length >= limit
        if at_limit:
            total[:] = -np.inf
        else:
            every = np.concatenate([ended, total.reshape(-1)])
            threshold = np.sort(every)[-options.beam] if len(every) >= options.beam else -np.inf
            ended = np.where(ended < threshold, -np.inf, ended)
        if options.coverage:
            ended = ended + options.coverage * np.log(np.clip(covered, 1e-6, 1.0)).sum(1)
        for w in np.flatnonzero(ended > -np.inf).tolist():
            parts = {name: float(value[w]) for name, value in ending.items() if name != "fused" or scorer or options.token_bonus}
            finished.append(AttentionHypothesis(list(beam.tokens[w]), float(ended[w]) / (length + 1) ** options.length_power,
                                                list(beam.token_scores[w]), parts=parts))
        finished.sort(key=lambda h: -h.score)
        del finished[options.beam:]
        # the beam moves on
        order = np.argsort(-total, axis=None, kind="stable")[:options.beam]
        order = order[total.reshape(-1)[order] > -np.inf]
        if not len(order):
            break
        alive = float(total.reshape(-1)[order[0]])
        left = limit - length - 1
        gain = max(most, 0.0) * max(left + 1, 1) + max(options.token_bonus, 0.0) * max(min(rewarded - length - 1, left), 0.0)
        if not _may_improve(alive + gain, alive, length + 1, limit, options, finished, min(nbest, options.beam)):
            break
        slot, place = np.divmod(order, count)
        token = chosen[slot, place]
        beam.move(slot, token, attention[slot, place], fused[slot, place], best[slot, place], scored,
                  ctc, by_ctc[slot, place] if by_ctc is not None else None, place)
        last, parents = token[None, :, None].astype(np.int64), slot[None].astype(np.int64)
    return finished[:nbest] or [AttentionHypothesis([], -math.inf)]


def rescore(decoder: OnnxDecoder, states: np.ndarray, found: list[CtcHypothesis], options: BeamOptions) -> list[AttentionHypothesis]:
    """Rank CTC's n-best of one utterance anew: (1 - ctc_weight) · attention + ctc_weight · CTC + what scorers gave in the first pass."""
    if not len(states):
        return [AttentionHypothesis(h.tokens, h.score) for h in found]
    (scores,) = decoder.score(states[None], np.array([len(states)], dtype=np.int64), [[h.tokens for h in found]])
    ranked = []
    for h, attention in zip(found, scores):
        fused = h.score - h.ctc_score if h.score > -math.inf else 0.0
        heard = options.ctc_weight * h.ctc_score if options.ctc_weight else 0.0  # not 0 · -inf, of a text that CTC cannot say
        total = (1 - options.ctc_weight) * attention + heard + fused + options.token_bonus * len(h.tokens)
        total /= (len(h.tokens) + 1) ** options.length_power
        ranked.append(AttentionHypothesis(h.tokens, total, list(h.token_log_probs), list(h.frames),
                                          {"attention": attention, "ctc": h.ctc_score, "fused": fused}))
    return sorted(ranked, key=lambda h: -h.score)


class _Beam:
    """The unfinished hypotheses: their tokens, the parts of their scores, and the states of all who score them."""

    def __init__(self, state: DecoderState, ctc: CtcPrefixScorer | None, scorer: TokenScorer | None) -> None:
        self.state, self.scorer = state, scorer
        self.ctc = ctc.init() if ctc is not None else None
        self.attention, self.fused = np.zeros(1), np.zeros(1)
        self.tokens: list[list[int]] = [[]]
        self.token_scores: list[list[float]] = [[]]
        self.scored = [scorer.start() if scorer is not None else None]

    def gains(self, chosen: np.ndarray) -> tuple[np.ndarray | float, list[list[tuple]]]:
        """What the scorer adds for tokens [W, K], and its states after them."""
        if self.scorer is None:
            return 0.0, []
        steps = [[self.scorer.step(state, token) for token in row] for state, row in zip(self.scored, chosen.tolist())]
        return np.array([[gain for gain, _ in row] for row in steps]), steps

    def ends(self) -> np.ndarray | float:
        """What the scorer adds for the end: [W]."""
        return np.array([self.scorer.end(state) for state in self.scored]) if self.scorer is not None else 0.0

    def move(self, slot: np.ndarray, token: np.ndarray, attention: np.ndarray, fused: np.ndarray, best: np.ndarray,
             scored: list[list[tuple]], ctc: CtcPrefixScorer | None, by_ctc: np.ndarray | None, place: np.ndarray) -> None:
        """Become the hypotheses `slot` [W], each with one token more."""
        self.attention, self.fused = attention, fused
        said = list(zip(slot.tolist(), token.tolist(), best.tolist()))
        self.tokens = [[*self.tokens[w], t] for w, t, _ in said]
        self.token_scores = [[*self.token_scores[w], b] for w, _, b in said]
        if self.scorer is not None:
            self.scored = [scored[w][k][1] for w, k in zip(slot.tolist(), place.tolist())]
        if ctc is not None:
            assert self.ctc is not None and by_ctc is not None
            self.ctc = ctc.advance(self.ctc.select(slot), token, by_ctc)


def _may_improve(bound: float, best: float, length: int, limit: int, options: BeamOptions, finished: list[AttentionHypothesis],
                 nbest: int) -> bool:
    """Whether the best unfinished hypothesis, which cannot get further than `bound`, can still matter."""
    bound = bound / (limit + 1.0) ** options.length_power if bound < 0 else bound
    worst = finished[nbest - 1].score if len(finished) >= nbest else -math.inf
    top = finished[0].score if finished else -math.inf
    return bound > worst and best / (length + 1) ** options.length_power > top - options.patience / (length + 1) ** options.length_power
