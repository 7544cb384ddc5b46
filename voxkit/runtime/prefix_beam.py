"""CTC prefix beam search with plain numbers, chunk by chunk, with n-grams and phrases: the result of voxkit.search.prefix_beam.

A trained model is sure of blank in four frames of five and leaves a few tokens open in the others; what a frame costs is what it leaves
open. Probabilities are rescaled where they become small, so that nothing underflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voxkit.runtime.scorers import TokenScorer
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.peaks import token_peaks

_SMALL = 1e-100


@dataclass
class BeamState:
    """The prefixes of an utterance so far. Node 0 is the empty prefix.

    Attributes:
        beams: (probability, node, probability of ending in blank, in its last token), the best first.
        parent, last: of each node, its prefix and last token; children: (node, token) → node.
        traces: of each node in the beam, how it came there: (trace of its prefix, token, frame), None of the empty one.
        fused, scored: what scorers gave each node, and their state after it.
        offset: log of what probabilities were divided by; frames: consumed; skipped: whether sure blanks stand before the next frame.
        posteriors: what was consumed, for the times of tokens.
    """

    beams: list[tuple[float, int, float, float]]
    parent: list[int]
    last: list[int]
    fused: list[float]
    scored: list[Any]
    children: dict[int, int] = field(default_factory=dict)
    traces: dict[int, Any] = field(default_factory=lambda: {0: None})
    offset: float = 0.0
    frames: int = 0
    skipped: bool = False
    posteriors: list[np.ndarray] = field(default_factory=list)


class PrefixBeam:
    """The search.

    Args:
        beam: hypotheses kept.
        blank: its id.
        scorer: what is added to CTC's log-probability per token.
        candidates: tokens looked at in a frame. Default: beam + 1, which loses nothing, or 2 · beam with a scorer.
        blank_skip: frames where blank has at least this probability count as blank and cost nothing.
        min_log_prob: tokens below this are no candidates in a frame (nats).
        prune: hypotheses this much worse than the best are dropped (nats).
        times: keep the posteriors, to find each token's peak.
    """

    def __init__(self, beam: int = 10, *, blank: int = 0, scorer: TokenScorer | None = None, candidates: int | None = None,
                 blank_skip: float = 0.99, min_log_prob: float = -5.0, prune: float = 10.0, times: bool = True) -> None:
        if beam < 1:
            raise ValueError(f"beam is {beam}: it must be at least 1")
        self.beam, self.blank, self.scorer, self.times = beam, blank, scorer, times
        self.blank_skip, self.min_log_prob, self.prune = blank_skip, min_log_prob, prune
        self.candidates = candidates or (beam + 1 if scorer is None else 2 * beam)

    def init(self) -> BeamState:
        """Before the first frame."""
        start = self.scorer.start() if self.scorer is not None else None
        return BeamState([(1.0, 0, 1.0, 0.0)], [-1], [-1], [0.0], [start])

    def advance(self, state: BeamState, log_probs: np.ndarray) -> BeamState:
        """Consume frames log_probs [T, V], normalized; the state is changed and returned."""
        log_blank = log_probs[:, self.blank].astype(np.float64)
        sure = np.exp(log_blank) >= self.blank_skip
        for t in range(len(log_probs)):
            if sure[t]:
                state.offset += float(log_blank[t])
                state.skipped = True
            elif state.beams:
                self._step(state, log_probs[t], math.exp(log_blank[t]), state.frames + t)
        state.frames += len(log_probs)
        if self.times:
            state.posteriors.append(log_probs)
        return state

    def nbest(self, state: BeamState, nbest: int = 1, *, final: bool = True) -> list[CtcHypothesis]:
        """The best hypotheses, best first.

        Args:
            final: False for partial results, where the scorer's end is not due.
        """
        ranked = []
        for total, node, _, _ in state.beams:
            acoustic = state.offset + math.log(total)
            ending = self.scorer.end(state.scored[node]) if final and self.scorer is not None else 0.0
            ranked.append((acoustic + state.fused[node] + ending, acoustic, node))
        ranked.sort(reverse=True)
        out = []
        posteriors = np.concatenate(state.posteriors) if self.times and state.posteriors else None
        for score, acoustic, node in ranked[:nbest]:
            tokens, frames, trace = [], [], state.traces[node]
            while trace is not None:
                trace, token, frame = trace
                tokens.append(token)
                frames.append(frame)
            hypothesis = CtcHypothesis(tokens[::-1], score, frames[::-1], [], acoustic)
            if posteriors is not None and tokens:
                hypothesis.frames, hypothesis.token_log_probs = token_peaks(posteriors, hypothesis.tokens, hypothesis.frames)
            out.append(hypothesis)
        return out or [CtcHypothesis([], -math.inf, ctc_score=-math.inf)]

    def _step(self, s: BeamState, x: np.ndarray, blank: float, t: int) -> None:
        """One frame [V] that is no sure blank."""
        if s.skipped:
            s.beams = [(total, node, total, 0.0) for total, node, _, _ in s.beams]
            s.skipped = False
        open_tokens = self._open(x)
        vocab, alive = len(x), {beam[1]: beam for beam in s.beams}
        child_of, last = s.children.get, s.last
        grown: dict[int, float] = {}  # node, or -1 - (node · V + token) of one that is not there yet → probability
        for total, node, blanked, _ in s.beams:
            own, base = last[node], node * vocab
            for token, p in open_tokens:
                grown[child_of(base + token, -1 - base - token)] = (blanked if token == own else total) * p
        following = []
        for total, node, _, held in s.beams:
            own, stay = last[node], 0.0
            if own >= 0:
                p = math.exp(x[own])
                arriving = grown.pop(node, None)
                if arriving is None:  # too unlikely as a candidate, but its prefix is here
                    source = alive.get(s.parent[node])
                    arriving = (source[2] if last[s.parent[node]] == own else source[0]) * p if source is not None else 0.0
                stay = arriving + held * p
            blanked = total * blank
            following.append((blanked + stay, node, blanked, stay))
        following += [(p, node, 0.0, p) for node, p in grown.items() if p > 0]
        self._keep(s, [f for f in following if f[0] > 0], vocab, t)

    def _keep(self, s: BeamState, following: list[tuple[float, int, float, float]], vocab: int, t: int) -> None:
        """The best of them become the beam; prefixes that are new become nodes."""
        kept: list[tuple[tuple[float, int, float, float], tuple[float, Any] | None]]
        if self.scorer is None:
            following.sort(reverse=True)
            del following[self.beam:]
            least = following[0][0] * math.exp(-self.prune) if following else 0.0
            kept = [(f, None) for f in following if f[0] > least]
        else:
            ranked = []
            for f in following:
                gained = self._fused(s, f[1], vocab)
                ranked.append((math.log(f[0]) + gained[0], f, gained))
            ranked.sort(key=lambda r: (-r[0], -r[1][1]))
            del ranked[self.beam:]
            kept = [(f, gained) for score, f, gained in ranked if score >= ranked[0][0] - self.prune]
        s.beams, before = [], s.traces
        s.traces = {}
        for (total, node, blanked, held), fused in kept:
            if node < 0:
                key = -1 - node
                node = s.children[key] = len(s.parent)
                s.parent.append(key // vocab)
                s.last.append(key % vocab)
                s.fused.append(fused[0] if fused is not None else 0.0)
                s.scored.append(fused[1] if fused is not None else None)
            s.traces[node] = before[node] if node in before else (before[s.parent[node]], s.last[node], t)
            s.beams.append((total, node, blanked, held))
        best = max((beam[0] for beam in s.beams), default=1.0)
        if best < _SMALL:
            s.offset += math.log(best)
            s.beams = [(total / best, node, blanked / best, held / best) for total, node, blanked, held in s.beams]

    def _fused(self, s: BeamState, node: int, vocab: int) -> tuple[float, Any]:
        """What scorers gave a prefix in all, and their state after it."""
        if node >= 0:
            return s.fused[node], s.scored[node]
        assert self.scorer is not None
        parent, token = divmod(-1 - node, vocab)
        gain, after = self.scorer.step(s.scored[parent], token)
        return s.fused[parent] + gain, after

    def _open(self, x: np.ndarray) -> list[tuple[int, float]]:
        """The tokens that a frame leaves open, with their probabilities."""
        tokens = np.flatnonzero(x >= self.min_log_prob)
        tokens = tokens[tokens != self.blank]
        if len(tokens) > self.candidates:
            tokens = tokens[np.argsort(-x[tokens], kind="stable")[:self.candidates]]
        return list(zip(tokens.tolist(), np.exp(x[tokens].astype(np.float64)).tolist()))
