"""Transducer beam search with at most one token a frame (icefall's modified beam search): all hypotheses of a batch go through joiner,
decoder and scorer together.

    best = transducer_beam(head, states, lengths, beam=4)[0][0].tokens

Alignments of equal texts are summed. In one frame a hypothesis can coincide with another only if it is that one's beginning and that one's
last token comes now. In most frames nothing can come into a beam but what is there: then neither scorer nor decoder is asked. What is left
to do for an utterance are a few additions, and those cost less with plain numbers than as operations on small tensors.

Streaming: `search = TransducerBeam(head)`, `state = search.init(B)`, `state = search.advance(state, chunk, lengths)`, and
`search.nbest(state)`.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from voxkit.search.hypotheses import TransducerHypothesis
from voxkit.search.reference import logaddexp
from voxkit.search.scorer import Scorer
from voxkit.search.transducer import Transducer, among_tokens, check_states

_INF = math.inf
_CANDIDATES = 20
_Before = tuple[float, Any, float]  # of a hypothesis before a frame: log-probability, chain; log-probability of blank in the frame


@dataclass(slots=True)
class _Text:
    """One hypothesis.

    Attributes:
        own, fused: log-probability by the transducer; by scorers and internal language model.
        key: hash of the text, before: of the text without its last token; equal texts have equal ones, others by a 2^-61 chance.
        last, size: last token, number of tokens.
        chain: its tokens, last one first: (those before, token, frame, log-probability among tokens); None at its beginning.
        context: its last tokens, as the decoder sees them.
        row: its place among the vectors of all hypotheses; grown: the token that those have not seen yet, -1: none.
    """

    own: float
    fused: float
    key: int
    before: int | None
    last: int
    size: int
    chain: tuple | None
    context: list[int]
    row: int
    grown: int = -1


@dataclass
class BeamState:
    """The beams of B utterances; opaque to callers.

    Attributes:
        beams: per utterance its hypotheses.
        said: [N, J] what the joiner takes of them; scorer: state of the scorer for the same N.
        frames: per utterance, frames consumed.
    """

    beams: list[list[_Text]]
    said: Tensor
    scorer: Any
    frames: list[int]


class _Layout(NamedTuple):
    """N hypotheses of some utterances.

    Attributes:
        items: the utterances; texts: the hypotheses; of: the utterance of each, item: the same as a tensor.
        row: [N] place of each in the state's vectors; said: [N, J] theirs.
        pairs: (place of its beginning, place) of every text whose beginning is there too.
        steps: (hypothesis, token) [N + pairs] of what leads to texts that are there: blanks, then the last tokens of the pairs.
    """

    items: list[int]
    texts: list[_Text]
    of: list[int]
    item: Tensor
    row: Tensor
    said: Tensor
    pairs: list[tuple[int, int]]
    steps: tuple[Tensor, ...]


class TransducerBeam:
    """The search.

    Args:
        head: scores.
        beam: hypotheses kept per utterance (W).
        scorer: what is added per token (language model, context graph, or `Together` of them).
        internal_lm_weight: of the transducer's own language model, which is subtracted where another one is added.
        candidates: tokens that scorer and internal language model look at, per hypothesis and frame; default 2 · beam, at least 20 with
            either of them, and beam without, which loses nothing.
        length_power: hypotheses are ranked by score / (tokens + 1)^power.
        prune: hypotheses this much worse than the best are dropped (nats); None: none are.
    """

    def __init__(self, head: Transducer, beam: int = 4, *, scorer: Scorer | None = None, internal_lm_weight: float = 0.0,
                 candidates: int | None = None, length_power: float = 0.0, prune: float | None = 10.0) -> None:
        if beam < 1:
            raise ValueError(f"beam is {beam}: it must be at least 1")
        self.head, self.beam, self.scorer, self.internal_lm_weight = head, beam, scorer, internal_lm_weight
        self.length_power, self.prune = length_power, _INF if prune is None else prune
        plain = scorer is None and not internal_lm_weight
        self.candidates = candidates or (beam if plain else max(_CANDIDATES, 2 * beam))
        # what scorer and internal language model can add to a token at the most
        self.most = _INF if internal_lm_weight else scorer.most if scorer is not None else 0.0

    def init(self, size: int, device: torch.device | str = "cpu") -> BeamState:
        """Beams of `size` utterances before their first frame."""
        device = torch.device(device)
        context = self.head.init_context(1, device)
        beams = [[_Text(0.0, 0.0, 0, None, -1, 0, None, context[0].tolist(), b)] for b in range(size)]
        scorer = self.scorer.init(size, device) if self.scorer is not None else None
        return BeamState(beams, self.head.say(context).expand(size, -1), scorer, [0] * size)

    @torch.no_grad()
    def advance(self, state: BeamState, states: Tensor, lengths: Tensor) -> BeamState:
        """Consume frames: states [B, T, D], lengths [B] valid ones → the state after them."""
        check_states(states, lengths, len(state.frames))
        heard, ends = self.head.hear(states), lengths.tolist()
        now = BeamState([[copy(text) for text in beam] for beam in state.beams], state.said, state.scorer, list(state.frames))
        laid = None
        for t in range(max(ends, default=0)):
            items = [b for b, end in enumerate(ends) if t < end]
            if laid is None or laid.items != items:
                laid = self._lay_out(now, items)
            if self._step(now, heard[:, t], laid):
                laid = None
        return now

    def _lay_out(self, s: BeamState, items: list[int]) -> _Layout:
        """The hypotheses of the utterances `items` side by side; it holds until a beam changes."""
        texts, of = [text for b in items for text in s.beams[b]], [b for b in items for _ in s.beams[b]]
        places = {(b, text.key): n for n, (b, text) in enumerate(zip(of, texts))}
        pairs = [(places[b, text.before], n) for n, (b, text) in enumerate(zip(of, texts)) if (b, text.before) in places]
        blanks = [(n, self.head.blank) for n in range(len(texts))]
        index = torch.tensor([of, [text.row for text in texts]], device=s.said.device)
        steps = torch.tensor([*blanks, *((n, texts[m].last) for n, m in pairs)], device=s.said.device)
        return _Layout(items, texts, of, index[0], index[1], s.said[index[1]], pairs, tuple(steps.unbind(1)))

    def _step(self, s: BeamState, heard: Tensor, laid: _Layout) -> bool:
        """One frame [B, J], in place → whether a beam has other hypotheses now."""
        texts = laid.texts
        scores = self.head.join(heard[laid.item], laid.said)  # [N, V]
        known = scores[laid.steps].tolist()
        scores[laid.steps] = -_INF  # blank, and tokens that make no new text: it is in the beam, and counts there
        before = [(text.own, text.chain, blank) for text, blank in zip(texts, known)]
        for text, blank in zip(texts, known):
            text.own += blank
        for (n, m), p in zip(laid.pairs, known[len(texts):]):  # by its last token, after the hypothesis that is its beginning
            (own, chain, blank), text = before[n], texts[m]
            arriving = own + p
            if arriving > text.own:  # then its last token is most likely in this frame
                text.chain = (chain, text.last, s.frames[laid.of[m]], among_tokens(p, blank))
            text.own = logaddexp(text.own, arriving)
        values, tokens = scores.topk(min(self.candidates, scores.shape[1] - 1), dim=1)
        best = values.tolist()
        at, loud, changed = 0, {}, False  # loud: utterance → its place among the texts, where something new can come into the beam
        for b in laid.items:
            beam = s.beams[b]
            ranked = [text.own + text.fused for text in beam]
            least = max(ranked) - self.prune
            if any(before[n][0] + text.fused + best[n][0] + self.most > (max(least, min(ranked)) if len(beam) == self.beam else least)
                   for n, text in enumerate(beam, at)):
                loud[b] = at
            elif min(ranked) < least:
                s.beams[b], changed = [text for text, score in zip(beam, ranked) if score >= least], True
            at += len(beam)
        if loud:
            chosen = [n for b, at in loud.items() for n in range(at, at + len(s.beams[b]))]
            gains = self._gains(s, laid.row[chosen], tokens[chosen])
            candidates = [list(zip(row, best[n], gain)) for n, row, gain in zip(chosen, tokens[chosen].tolist(), gains)]
            openings = iter([(before[n], of_one) for n, of_one in zip(chosen, candidates)])
            for b in loud:
                self._extend(s, b, [next(openings) for _ in s.beams[b]])
            self._move(s)
        for b in laid.items:
            s.frames[b] += 1
        return changed or bool(loud)

    def _gains(self, s: BeamState, rows: Tensor, tokens: Tensor) -> list[list[float]]:
        """What scorer and internal language model add: tokens [M, K] of the hypotheses at rows [M] → M times K."""
        gain = torch.zeros(tokens.shape, device=tokens.device)
        if self.internal_lm_weight:
            gain -= self.internal_lm_weight * self.head.internal_lm(s.said[rows]).gather(1, tokens)
        if self.scorer is not None:
            gain += self.scorer.score(self.scorer.select(s.scorer, rows), tokens)
        return gain.tolist()

    def _extend(self, s: BeamState, b: int, openings: list[tuple[_Before, list[tuple[int, float, float]]]]) -> None:
        """The beam of utterance b with texts that a token makes new, in place.

        Args:
            openings: per hypothesis what it was before the frame, and token, log-probability and gain of its candidates.
        """
        beam = s.beams[b]
        ranked: list[tuple[float, int, int]] = [(text.own + text.fused, n, -1) for n, text in enumerate(beam)]
        for n, (text, ((own, _, _), candidates)) in enumerate(zip(beam, openings)):
            ranked += [(own + text.fused + p + gain, n, c) for c, (_, p, gain) in enumerate(candidates) if p > -_INF]
        ranked.sort(key=lambda entry: -entry[0])
        least, kept = ranked[0][0] - self.prune, []
        for score, n, c in ranked[: self.beam]:
            text = beam[n]
            if score < least or score == -_INF:
                break
            if c >= 0:
                (own, chain, blank), candidates = openings[n]
                token, p, gain = candidates[c]
                text = _Text(own + p, text.fused + gain, hash((text.key, token)), text.key, token, text.size + 1,
                             (chain, token, s.frames[b], among_tokens(p, blank)), [*text.context[1:], token], text.row, token)
            kept.append(text)
        s.beams[b] = kept or beam[:1]

    def _move(self, s: BeamState) -> None:
        """Vectors and scorer states for the hypotheses that there are now; the decoder runs for new ones alone."""
        texts, device = [text for beam in s.beams for text in beam], s.said.device
        rows = torch.tensor([text.row for text in texts], device=device)
        s.said = s.said[rows]
        if new := [n for n, text in enumerate(texts) if text.grown >= 0]:
            s.said[new] = self.head.say(torch.tensor([texts[n].context for n in new], device=device))
        if self.scorer is not None:
            grown = torch.tensor([text.grown for text in texts], device=device)
            s.scorer = self.scorer.advance(self.scorer.select(s.scorer, rows), grown)
        for n, text in enumerate(texts):
            text.row, text.grown = n, -1

    @torch.no_grad()
    def nbest(self, state: BeamState, nbest: int = 1, *, final: bool = True) -> list[list[TransducerHypothesis]]:
        """The best hypotheses of each utterance, best first; `final` False for partial results, where the scorer's end is not due."""
        ends = self.scorer.final(state.scorer).tolist() if self.scorer is not None and final else None
        out = []
        for beam in state.beams:
            row = []
            for text in beam:
                fused = text.fused + (ends[text.row] if ends else 0.0)
                tokens, frames, log_probs = _unroll(text.chain)
                score = (text.own + fused) / (text.size + 1) ** self.length_power
                row.append(TransducerHypothesis(tokens, score, frames, log_probs, {"transducer": text.own, "fused": fused}))
            out.append(sorted(row, key=lambda h: -h.score)[:nbest])
        return out


def transducer_beam(head: Transducer, states: Tensor, lengths: Tensor, beam: int = 4, *, nbest: int = 1,
                    **options: Any) -> list[list[TransducerHypothesis]]:
    """Whole utterances: states [B, T, D], lengths [B] → n-best each, best first. Other arguments: `TransducerBeam`."""
    search = TransducerBeam(head, beam, **options)
    return search.nbest(search.advance(search.init(len(states), states.device), states, lengths), nbest)


def _unroll(chain: tuple | None) -> tuple[list[int], list[int], list[float]]:
    """A chain's tokens, their frames and log-probabilities, the first token first."""
    found = []
    while chain is not None:
        found.append(chain[1:])
        chain = chain[0]
    return tuple([entry[i] for entry in reversed(found)] for i in range(3))  # type: ignore[return-value]
