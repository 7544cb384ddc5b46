"""Transducer searches (Graves 2012), vectorised over batch and beam: greedy, and the beam with at most one token a frame.

    best = transducer_beam(head, states, lengths, beam=4)[0][0].tokens

Greedy search looks at several frames at a time: as long as all are blank, what was said stays the same and so do the scores (label
looping: Bataev et al. 2024). The beam (icefall's modified beam search) sums the alignments of equal texts; those meet as in
`PrefixBeam`: in one frame a hypothesis can coincide with another only if it is that one's beginning and that one's last token comes now.

Streaming: `search = TransducerBeam(head)`, `state = search.init(B)`, `state = search.advance(state, chunk, lengths)`, and
`search.nbest(state)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from voxkit.ops.checks import check_lengths, check_shapes
from voxkit.search.hypotheses import TransducerHypothesis
from voxkit.search.scorer import Scorer

_MIX = 6364136223846793005  # Knuth's 64-bit multiplier; products wrap
_NONE, _DEAD = -1, 0  # "no parent", and the hash of an empty slot: no text has these but by a 2^-64 chance
_INF = float("inf")
_WINDOW = 8  # frames that greedy search looks at together


class Transducer(Protocol):
    """What the searches need of a head (`voxkit.decoders.transducer.Transducer`)."""

    blank: int

    def init_context(self, size: int, device: torch.device) -> Tensor:
        """[size, C] of hypotheses that have said nothing."""

    def hear(self, states: Tensor) -> Tensor:
        """states [..., D] → [..., J]."""

    def say(self, context: Tensor) -> Tensor:
        """Last tokens [N, C] → [N, J]."""

    def join(self, heard: Tensor, said: Tensor) -> Tensor:
        """[..., J] each → log-probabilities [..., V], float32."""

    def internal_lm(self, said: Tensor) -> Tensor:
        """[..., J] → log-probabilities of tokens as the transducer expects them unheard [..., V]."""


@dataclass
class GreedyState:
    """B utterances so far; opaque to callers.

    Attributes:
        context: [B, C] last tokens; said: [B, J] what the joiner takes of them.
        score: [B] log-probability of all blanks and tokens. frames: [B] consumed.
        found: per utterance tokens, frames and log-probabilities of these.
    """

    context: Tensor
    said: Tensor
    score: Tensor
    frames: Tensor
    found: list[tuple[list[int], list[int], list[float]]] = field(default_factory=list)


class TransducerGreedy:
    """The most likely step again and again.

    Args:
        head: scores.
        symbols: tokens that a frame may emit.
    """

    def __init__(self, head: Transducer, symbols: int = 1) -> None:
        if symbols < 1:
            raise ValueError(f"symbols is {symbols}: a frame emits at least one token at the most")
        self.head, self.symbols = head, symbols

    def init(self, size: int, device: torch.device | str = "cpu") -> GreedyState:
        """`size` utterances before their first frame."""
        context, zeros = self.head.init_context(size, torch.device(device)), torch.zeros(size, device=device)
        return GreedyState(context, self.head.say(context), zeros, zeros.long(), [([], [], []) for _ in range(size)])

    @torch.no_grad()
    def advance(self, state: GreedyState, states: Tensor, lengths: Tensor) -> GreedyState:
        """Consume frames: states [B, T, D], lengths [B] valid ones → the state after them."""
        _check(states, lengths, len(state.frames))
        heard, blank, device = self.head.hear(states), self.head.blank, states.device
        context, said, score = state.context.clone(), state.said.clone(), state.score.clone()
        at, symbols = torch.zeros_like(lengths), torch.zeros_like(lengths)  # next frame, and tokens that it has emitted
        window = torch.arange(_WINDOW, device=device)
        emitted = []
        active = (at < lengths).nonzero()[:, 0]
        while len(active):
            frames = at[active, None] + window
            inside = frames < lengths[active, None]
            x = self.head.join(heard[active[:, None], frames.clamp(max=heard.shape[1] - 1)], said[active, None])
            best, token = x.max(-1)
            stops = (token != blank) & inside
            speaks, first = stops.any(1), stops.byte().argmax(1)
            # blanks before the token, or all there are
            before = torch.where(speaks[:, None], window < first[:, None], inside)
            score[active] += best.masked_fill(~before, 0.0).sum(1)
            at[active] += before.sum(1)
            symbols[active] = torch.where(before.any(1), 0, symbols[active])
            rows, first = active[speaks], first[speaks]
            if len(rows):
                token, best = token[speaks].gather(1, first[:, None])[:, 0], best[speaks].gather(1, first[:, None])[:, 0]
                emitted.append((rows, token, at[rows] + state.frames[rows], best))
                context[rows] = torch.cat((context[rows, 1:], token[:, None]), dim=1)
                said[rows] = self.head.say(context[rows])
                score[rows] += best
                full = symbols[rows] + 1 >= self.symbols
                at[rows] += full
                symbols[rows] = torch.where(full, 0, symbols[rows] + 1)
            active = active[at[active] < lengths[active]]
        found = [tuple(list(part) for part in old) for old in state.found]
        for step in emitted:
            for b, *new in zip(*(x.tolist() for x in step)):
                for old, value in zip(found[b], new):
                    old.append(value)
        return GreedyState(context, said, score, state.frames + lengths, found)

    def nbest(self, state: GreedyState, nbest: int = 1, *, final: bool = True) -> list[list[TransducerHypothesis]]:
        """The one hypothesis of each utterance, as of the beam; `final` makes no difference."""
        return [[TransducerHypothesis(list(tokens), score, list(frames), list(log_probs), {"transducer": score})]
                for (tokens, frames, log_probs), score in zip(state.found, state.score.tolist())]


@dataclass
class BeamState:
    """The beams of B utterances with W slots; opaque to callers.

    Attributes:
        log: [B, 2, W] by the transducer, by scorers and internal language model.
        ids: [B, 4, W] hash, parent's hash, last token, node in the back-pointers.
        context: [B, W, C] last tokens; said: [B, W, J] what the joiner takes of them.
        sizes: [B, W] tokens. frames: [B] consumed.
        scorer: state of the scorer for B·W hypotheses.
        steps: per frame of `advance` the parent node, token and log-probability of each slot [B, W] that is new or found a better frame for
            its last token, and the frame [B]; node = 1 + step · W + slot, 0 = the empty text.
    """

    log: Tensor
    ids: Tensor
    context: Tensor
    said: Tensor
    sizes: Tensor
    frames: Tensor
    scorer: Any
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)


class TransducerBeam:
    """The beam with at most one token a frame.

    Args:
        head: scores.
        beam: hypotheses kept per utterance (W).
        scorer: what is added per token (language model, context graph, or `Together` of them).
        internal_lm_weight: of the transducer's own language model, which is subtracted where another one is added.
        candidates: tokens that scorer and internal language model look at, per hypothesis and frame; default 2 · beam, at least 20 with
            either of them, and beam without, which loses nothing.
        length_power: hypotheses are ranked by score / (tokens + 1)^power.
    """

    def __init__(self, head: Transducer, beam: int = 4, *, scorer: Scorer | None = None, internal_lm_weight: float = 0.0,
                 candidates: int | None = None, length_power: float = 0.0) -> None:
        if beam < 1:
            raise ValueError(f"beam is {beam}: it must be at least 1")
        self.head, self.beam, self.scorer, self.internal_lm_weight = head, beam, scorer, internal_lm_weight
        self.length_power = length_power
        plain = scorer is None and not internal_lm_weight
        self.candidates = candidates or (beam if plain else max(20, 2 * beam))

    def init(self, size: int, device: torch.device | str = "cpu") -> BeamState:
        """Beams of `size` utterances before their first frame."""
        device, width = torch.device(device), self.beam
        log = torch.zeros(size, 2, width, device=device)
        log[:, 0, 1:] = -_INF
        ids = torch.zeros(size, 4, width, dtype=torch.long, device=device)
        ids[:, 0, 0] = 1
        ids[:, 1] = _NONE
        ids[:, 2] = -1
        context = self.head.init_context(1, device)
        said = self.head.say(context).expand(size, width, -1)
        sizes = torch.zeros(size, width, dtype=torch.long, device=device)
        scorer = self.scorer.init(size * width, device) if self.scorer is not None else None
        return BeamState(log, ids, context.expand(size, width, -1), said, sizes, sizes[:, 0], scorer)

    @torch.no_grad()
    def advance(self, state: BeamState, states: Tensor, lengths: Tensor) -> BeamState:
        """Consume frames: states [B, T, D], lengths [B] valid ones → the state after them."""
        _check(states, lengths, len(state.frames))
        seen = replace(state, frames=state.frames + lengths, steps=list(state.steps))
        heard, longest, shortest = self.head.hear(states), int(lengths.max()), int(lengths.min())
        for t in range(longest):
            step = self._step(seen, heard[:, t, None], (lengths > t)[:, None] if t >= shortest else None)
            seen.steps.append((*step, state.frames + t))
        return seen

    def _step(self, s: BeamState, heard: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """One frame, in place: heard [B, 1, J], valid [B, 1] → parent node, token and its log-probability of each slot [B, W]."""
        width, blank = self.beam, self.head.blank
        x = self.head.join(heard, s.said)
        vocab = x.shape[2]
        own, fused = s.log.unbind(1)
        hashes, parents, last, node = s.ids.unbind(1)
        # what comes to a hypothesis from the one that is its beginning
        origin = (parents[:, :, None] == hashes[:, None, :]).byte().argmax(2)
        grown = hashes.gather(1, origin) == parents
        meeting = origin * vocab + torch.where(grown, last, blank)
        again = x.flatten(1).gather(1, meeting)
        arriving = (own.gather(1, origin) + again).masked_fill(~grown, -_INF)
        stay = own + x[..., blank]
        extension = x.index_fill(2, torch.tensor([blank], device=x.device), -_INF)
        extension = extension.flatten(1).scatter(1, meeting, -_INF).view_as(x)  # that is in the beam, and counts there
        if valid is not None:  # padding leaves everything as it is
            stay, arriving = torch.where(valid, stay, own), arriving.masked_fill(~valid, -_INF)
            extension = extension.masked_fill(~valid[..., None], -_INF)
        best, tokens = extension.topk(min(self.candidates, vocab - 1), dim=2)
        gain = self._gain(s, tokens).masked_fill(best == -_INF, 0.0)
        # slot-major, and in each slot: stay, then its extensions
        acoustic = torch.cat((torch.logaddexp(stay, arriving)[..., None], own[..., None] + best), dim=2).flatten(1)
        added = torch.cat((fused[..., None], fused[..., None] + gain), dim=2).flatten(1)
        tokens = torch.nn.functional.pad(tokens, (1, 0), value=-1)
        top, index = (acoustic + added).topk(width, dim=1)
        slot = index.div(tokens.shape[2], rounding_mode="floor")
        token = tokens.flatten(1).gather(1, index)
        new, dead = token >= 0, top == -_INF
        # a text that arrived with more than it stayed with has its last token in this frame
        later = (arriving > stay).gather(1, slot) & ~new
        came = torch.where(later, node.gather(1, origin).gather(1, slot), node.gather(1, slot))
        said_now = torch.where(new, best.flatten(1).gather(1, (index - slot - 1).clamp(min=0)), again.gather(1, slot))
        hashes, parents, last, node = s.ids.gather(2, slot[:, None].expand(-1, 4, -1)).unbind(1)
        longer = (hashes ^ (token + 1)) * _MIX
        longer = longer ^ (longer >> 29)
        last = torch.where(new, token, last)
        step = 1 + len(s.steps) * width + torch.arange(width, device=x.device)
        s.ids = torch.stack((torch.where(new, longer, hashes).masked_fill(dead, _DEAD),
                             torch.where(new, hashes, parents).masked_fill(dead, _NONE),  # dead slots meet nobody
                             last, torch.where(new | later, step, node)), dim=1)
        s.log = torch.stack((acoustic.gather(1, index), added.gather(1, index)), dim=1)
        s.sizes = s.sizes.gather(1, slot) + new
        self._grow(s, slot, token, new)
        return came, last, said_now

    def _gain(self, s: BeamState, tokens: Tensor) -> Tensor:
        """What scorer and internal language model add to every candidate: tokens [B, W, K] → [B, W, K]."""
        gain = torch.zeros(tokens.shape, device=tokens.device)
        if self.internal_lm_weight:
            gain -= self.internal_lm_weight * self.head.internal_lm(s.said).gather(2, tokens)
        if self.scorer is not None:
            gain += self.scorer.score(s.scorer, tokens.flatten(0, 1)).view(tokens.shape).to(gain.dtype)
        return gain

    def _grow(self, s: BeamState, slot: Tensor, token: Tensor, new: Tensor) -> None:
        """Contexts and scorer states go where their hypotheses went; the decoder runs for new ones alone."""
        s.context = s.context.gather(1, slot[..., None].expand_as(s.context))
        s.said = s.said.gather(1, slot[..., None].expand_as(s.said))
        if bool(new.any()):
            context = torch.cat((s.context[new][:, 1:], token[new][:, None]), dim=1)
            s.context = s.context.index_put((new,), context)
            s.said = s.said.index_put((new,), self.head.say(context))
        if self.scorer is not None:
            flat = (slot + torch.arange(len(slot), device=slot.device)[:, None] * self.beam).flatten()
            s.scorer = self.scorer.advance(self.scorer.select(s.scorer, flat), token.flatten())

    @torch.no_grad()
    def nbest(self, state: BeamState, nbest: int = 1, *, final: bool = True) -> list[list[TransducerHypothesis]]:
        """The best hypotheses of each utterance, best first; `final` False for partial results, where the scorer's end is not due."""
        own, fused = state.log.unbind(1)
        if self.scorer is not None and final:
            fused = fused + self.scorer.final(state.scorer).view_as(fused).to(fused.dtype)
        ranked, order = ((own + fused) / (state.sizes + 1.0) ** self.length_power).sort(dim=1, descending=True)
        ranked, order = ranked[:, :nbest], order[:, :nbest]
        rows = [part.gather(1, order).tolist() for part in (own, fused, state.ids[:, 3])]
        steps = [torch.stack(part, 1).cpu().numpy() for part in zip(*state.steps)]
        out = []
        for b, (scores, *parts) in enumerate(zip(ranked.tolist(), *rows)):
            row = []
            for score, acoustic, added, node in zip(scores, *parts):
                if score > -_INF:
                    tokens, log_probs, frames = _backtrace([part[b] for part in steps], self.beam, node)
                    row.append(TransducerHypothesis(tokens, score, frames, log_probs, {"transducer": acoustic, "fused": added}))
            out.append(row or [TransducerHypothesis([], -_INF)])
        return out


def transducer_greedy(head: Transducer, states: Tensor, lengths: Tensor, symbols: int = 1) -> list[TransducerHypothesis]:
    """Whole utterances: states [B, T, D], lengths [B] → one hypothesis each. Other arguments: `TransducerGreedy`."""
    search = TransducerGreedy(head, symbols)
    return [row[0] for row in search.nbest(search.advance(search.init(len(states), states.device), states, lengths))]


def transducer_beam(head: Transducer, states: Tensor, lengths: Tensor, beam: int = 4, *, nbest: int = 1,
                    **options: Any) -> list[list[TransducerHypothesis]]:
    """Whole utterances: states [B, T, D], lengths [B] → n-best each, best first. Other arguments: `TransducerBeam`."""
    search = TransducerBeam(head, beam, **options)
    return search.nbest(search.advance(search.init(len(states), states.device), states, lengths), nbest)


def _backtrace(steps: list[Any], width: int, node: int) -> tuple[list[int], list[float], list[int]]:
    """A node's tokens, their log-probabilities and frames. steps (numpy): parents, tokens, log-probabilities [S, W], frames [S]."""
    path = []
    while node:
        path.append(divmod(node - 1, width))
        node = int(steps[0][path[-1]])
    path.reverse()
    return [int(steps[1][at]) for at in path], [float(steps[2][at]) for at in path], [int(steps[3][at[0]]) for at in path]


def _check(states: Tensor, lengths: Tensor, size: int) -> None:
    check_shapes({"states": (states, "BTD"), "lengths": (lengths, "B")}, B=size)
    check_lengths(lengths, states.shape[1])
    for b in states.isnan().flatten(1).any(1).nonzero().flatten().tolist():
        if states[b, : int(lengths[b])].isnan().any():
            raise ValueError(f"states of item {b} of the batch hold NaN: look at the model or its input")
