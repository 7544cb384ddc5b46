"""CTC prefix beam search (Graves & Jaitly 2014; Hannun et al. 2014), vectorized over batch, beam and tokens.

The only Python loop is over frames. Equal prefixes meet without dictionaries: a prefix is a 64-bit hash of its tokens and
remembers its parent's, and in one frame a hypothesis can coincide with another only if it extends that one's parent by
that one's last token. So an extension either merges into its twin in the beam or is new.

    best = ctc_prefix_beam(log_probs, lengths, beam=10)[0][0].tokens

Streaming: `search = PrefixBeam(...)`, `state = search.init(B)`, `state = search.advance(state, chunk, lengths)`, `search.nbest(state)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from voxkit.masks import lengths_to_mask
from voxkit.ops.checks import check_frames
from voxkit.search.beam_settings import BeamSettings
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.open_frames import open_frames
from voxkit.search.peaks import backtrace, token_peaks
from voxkit.search.prefix_beam_arrays import arrays_search
from voxkit.search.prefix_beam_scalar import scalar_search
from voxkit.search.scorer import Scorer

_MIX = 6364136223846793005  # Knuth's 64-bit multiplier; products wrap
_NONE, _DEAD = -1, 0  # "no parent", and the hash of an empty slot: no prefix has these but by a 2^-64 chance
_INF = float("inf")
ENGINES = ("auto", "tensor", "arrays", "scalar")
# Measured on one core: an extension with plain numbers, a step of arrays and what each of its entries adds.
_SCALAR_US, _STEP_US, _ENTRY_US = 0.42, 85.0, 0.015


@dataclass
class BeamState:
    """The beams of B utterances with W slots; opaque to callers.

    Attributes:
        log: [B, 3, W] ends in blank, ends in its last token, what scorers gave (natural log).
        ids: [B, 4, W] hash, parent's hash, last token, node in the back-pointers.
        scorer: state of the scorer for B·W hypotheses.
        steps: per call of `advance` its n steps: parent node and token [B, n, W], frame [B, n]; node = 1 + step · W + slot, 0 = the empty
            prefix. count: of all steps.
        frames: [B] frames consumed.
        blanks: [B] log-probability of skipped blank frames not yet accounted for, 0 where none, and whether there are any.
        posteriors: what `advance` was given (log_probs, lengths), for the times of tokens.
    """

    log: Tensor
    ids: Tensor
    scorer: Any
    frames: Tensor
    steps: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    count: int = 0
    blanks: tuple[Tensor, Tensor] | None = None
    posteriors: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class PrefixBeam:
    """The search.

    Args:
        beam: hypotheses kept per utterance (W).
        blank: its id.
        tokens_per_frame: candidates per frame, K. Default: beam + 1, which loses nothing, or 2 · beam with a scorer.
        scorer: what is added to CTC's log-probability per token (language model, context graph, or `Together` of them).
        blank_skip: frames where blank has at least this probability count as blank and cost nothing; None: none.
        min_log_prob: tokens below this are no candidates in a frame (natural log); None: all are.
        prune: hypotheses this much worse than the best are dropped (nats); None: none are.
        times: keep the posteriors, to find each token's peak; an endless stream should not.
    """

    def __init__(self, beam: int = 10, *, blank: int = 0, tokens_per_frame: int | None = None, scorer: Scorer | None = None,
                 blank_skip: float | None = 0.99, min_log_prob: float | None = -5.0, prune: float | None = 10.0,
                 times: bool = True) -> None:
        candidates = tokens_per_frame or (beam + 1 if scorer is None else 2 * beam)
        self.settings = BeamSettings(beam, candidates, blank, blank_skip, min_log_prob, prune, times)
        self.scorer = scorer

    def init(self, size: int, device: torch.device | str = "cpu") -> BeamState:
        """Beams of `size` utterances before their first frame."""
        device = torch.device(device)
        log = torch.full((size, 3, self.settings.beam), -_INF, device=device)
        log[:, 0, 0] = 0.0
        log[:, 2] = 0.0
        ids = torch.zeros(size, 4, self.settings.beam, dtype=torch.long, device=device)
        ids[:, 0, 0] = 1
        ids[:, 1] = _NONE
        ids[:, 2] = -1
        scorer = self.scorer.init(size * self.settings.beam, device) if self.scorer is not None else None
        nothing = (torch.zeros(size, device=device), torch.zeros(size, dtype=torch.bool, device=device))
        return BeamState(log, ids, scorer, torch.zeros(size, dtype=torch.long, device=device), blanks=nothing)

    @torch.no_grad()
    def advance(self, state: BeamState, log_probs: Tensor, lengths: Tensor) -> BeamState:
        """Consume frames: log_probs [B, T, V] normalized, lengths [B] valid ones → the state after them."""
        check_frames(log_probs, lengths, self.settings.blank)
        if log_probs.shape[1] == 0 or int(lengths.max()) == 0:
            return state
        x = log_probs.float()
        frame = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        valid = lengths_to_mask(lengths, x.shape[1])
        seen = replace(state, frames=state.frames + lengths,
                       posteriors=[*state.posteriors, (x, lengths)] if self.settings.times else [])
        pending = None
        if self.settings.blank_skip is not None:
            x, frame, valid, pending, seen.blanks = self._skip_blanks(x, frame, valid, state.blanks)
        padded = not bool(valid.all())
        x = x.masked_fill(~valid[..., None], -_INF) if padded else x
        others = x.clone()
        others[..., self.settings.blank] = -_INF
        if self.settings.min_log_prob is not None:
            others = others.masked_fill(others < self.settings.min_log_prob, -_INF)
        best, tokens = others.topk(min(self.settings.candidates, x.shape[2] - 1), dim=-1)
        useful = max(1, int((best > -_INF).sum(2).max()))
        best, tokens = best[..., :useful], tokens[..., :useful]
        tokens = torch.nn.functional.pad(tokens, (1, 0), value=-1)  # candidate 0: stay
        frame = frame + state.frames[:, None]
        steps = []
        for t in range(x.shape[1]):
            if pending is not None:
                log_blank, skipped = pending[0][:, t, None], pending[1][:, t, None]
                total = torch.logaddexp(seen.log[:, 0], seen.log[:, 1]) + log_blank
                blanked = torch.where(skipped, total, seen.log[:, 0])
                held = seen.log[:, 1].masked_fill(skipped, -_INF)
                seen.log = torch.stack([blanked, held, seen.log[:, 2]], 1)
            steps.append(self._step(seen, x[:, t], best[:, t], tokens[:, t], valid[:, t, None] if padded else None))
        parents, grown = (torch.stack(part, 1) for part in zip(*steps))
        seen.steps = [*state.steps, (parents, grown, frame)]
        return seen

    def _step(self, s: BeamState, x: Tensor, best: Tensor, tokens: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """One frame, in place: x [B, V], best [B, K] and tokens [B, 1 + K] (the first is "stay"), valid [B, 1] → parent node and token of
        each slot [B, W]."""
        size, width = x.shape[0], self.settings.beam
        blanked, held, fused = s.log.unbind(1)
        hashes, parents, last, node = s.ids.unbind(1)
        total = torch.logaddexp(blanked, held)
        again = x.gather(1, last.clamp(min=0))  # log-probability of each hypothesis' last token
        origin = (parents[:, :, None] == hashes[:, None, :]).byte().argmax(2)  # the hypothesis that one is a token longer than
        grown = hashes.gather(1, origin) == parents
        arriving = torch.where(last.gather(1, origin) == last, blanked.gather(1, origin), total.gather(1, origin))
        arriving = arriving.masked_fill(~grown, -_INF)
        stay_held = torch.logaddexp(held, arriving) + again
        stay_blank = total + x[:, self.settings.blank, None]
        if valid is not None:  # padding leaves everything as it is
            stay_blank, stay_held = torch.where(valid, stay_blank, blanked), torch.where(valid, stay_held, held)
        repeats = last[:, :, None] == tokens[:, None, 1:]
        extension = torch.where(repeats, blanked[:, :, None], total[:, :, None]) + best[:, None, :]
        # the beam has that prefix: what comes to it is `arriving`
        met = (repeats & grown[:, :, None]).byte()
        met = torch.zeros_like(met).scatter_add_(1, origin[:, :, None].expand_as(met), met).bool()
        extension = extension.masked_fill(met, -_INF)
        if self.scorer is not None:
            flat = tokens[:, None, 1:].expand(-1, width, -1).reshape(size * width, -1)
            gain = self.scorer.score(s.scorer, flat).view(size, width, -1).to(fused.dtype)
            gain = torch.nn.functional.pad(gain + fused[..., None], (1, 0))
            gain[:, :, 0] = fused
        ranked = torch.cat([torch.logaddexp(stay_blank, stay_held)[..., None], extension], 2)
        acoustic = ranked.flatten(1)
        ranked = (ranked + gain).flatten(1) if self.scorer is not None else acoustic
        top, index = ranked.topk(width, dim=1)
        columns = tokens.shape[1]
        slot = index.div(columns, rounding_mode="floor")
        token = tokens.gather(1, index - slot * columns)
        new = token >= 0
        ids = s.ids.gather(2, slot[:, None, :].expand(-1, 4, -1))
        hashes, parents, last, node = ids.unbind(1)
        step = 1 + s.count * width + torch.arange(width, device=x.device)
        s.count += 1
        came = (node, token)
        longer = (hashes ^ (token + 1)) * _MIX
        longer = longer ^ (longer >> 29)
        dead = top == -_INF if self.settings.prune is None else (top == -_INF) | (top < top[:, :1] - self.settings.prune)
        parents = torch.where(new, hashes, parents).masked_fill(dead, _NONE)  # dead slots meet nobody
        hashes = torch.where(new, longer, hashes).masked_fill(dead, _DEAD)
        s.ids = torch.stack([hashes, parents, torch.where(new, token, last), torch.where(new, step, node)], 1)
        stayed = torch.stack([stay_blank, stay_held], 1).gather(2, slot[:, None, :].expand(-1, 2, -1))
        blanked = stayed[:, 0].masked_fill(new | dead, -_INF)
        held = torch.where(new, acoustic.gather(1, index), stayed[:, 1]).masked_fill(dead, -_INF)
        if self.scorer is not None:
            fused = gain.flatten(1).gather(1, index)
            flat = (slot + torch.arange(size, device=x.device)[:, None] * width).flatten()
            s.scorer = self.scorer.advance(self.scorer.select(s.scorer, flat), token.flatten())
        s.log = torch.stack([blanked, held, fused], 1)
        return came

    def _skip_blanks(self, x: Tensor, frame: Tensor, valid: Tensor, blanks: tuple[Tensor, Tensor]):
        """Leave sure blanks out: frames closed up to the left, and with each what blanks were before it."""
        log_blank = x[..., self.settings.blank].double()
        sure = (log_blank.exp() >= self.settings.blank_skip) & valid
        keep = valid & ~sure
        count = keep.sum(1)
        width = max(1, int(count.max()))
        order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        kept = lengths_to_mask(count, width)
        # sums of skipped blanks up to and including each frame, and how many there were
        total = torch.where(sure, log_blank, 0.0).cumsum(1)
        number = sure.cumsum(1)
        at, n = total.gather(1, order), number.gather(1, order)
        at = torch.where(kept, at, total[:, -1:])  # the place after the last kept frame gets what follows it
        n = torch.where(kept, n, number[:, -1:])
        before = torch.diff(at, dim=1, prepend=torch.zeros_like(at[:, :1]))
        any_before = torch.diff(n, dim=1, prepend=torch.zeros_like(n[:, :1])) > 0
        before[:, 0] += blanks[0]
        any_before[:, 0] |= blanks[1]
        # with no place left after the last kept frame, the rest waits for the next frame or the end
        left = (total[:, -1] - at[:, -1], (number[:, -1] - n[:, -1]) > 0)
        index = order[..., None].expand(-1, -1, x.shape[2])
        return x.gather(1, index), frame.gather(1, order), kept, (before.float(), any_before), (left[0].float(), left[1])

    @torch.no_grad()
    def nbest(self, state: BeamState, nbest: int = 1, *, final: bool = True) -> list[list[CtcHypothesis]]:
        """The best hypotheses of each utterance, best first; `final` False for partial results, where the scorer's end is not due.

        Without `times` the frames are those where each token first entered the beam.
        """
        log_blank = state.blanks[0][:, None] if state.blanks is not None else 0.0
        ctc = torch.logaddexp(state.log[:, 0], state.log[:, 1]) + log_blank
        fused = state.log[:, 2]
        if self.scorer is not None and final:
            fused = fused + self.scorer.final(state.scorer).view_as(fused).to(fused.dtype)
        ranked, order = (ctc + fused).sort(dim=1, descending=True)
        order, ranked = order[:, :nbest], ranked[:, :nbest]
        ctc, nodes = ctc.gather(1, order), state.ids[:, 3].gather(1, order).tolist()
        paths = [torch.cat(part, 1).flatten(1).cpu().numpy() for part in zip(*state.steps)]
        posteriors = _join(state.posteriors, len(state.frames))
        out = []
        for b, (scores, acoustics) in enumerate(zip(ranked.tolist(), ctc.tolist())):
            row = []
            for at, score, acoustic in zip(nodes[b], scores, acoustics):
                if score == -_INF:
                    continue
                tokens, starts = backtrace(*(part[b] for part in paths), self.settings.beam, at) if at else ([], [])
                hypothesis = CtcHypothesis(tokens, score, starts, [], acoustic)
                if self.settings.times and tokens:
                    hypothesis.frames, hypothesis.token_log_probs = token_peaks(posteriors[b], tokens, starts)
                row.append(hypothesis)
            out.append(row or [CtcHypothesis([], -_INF, ctc_score=-_INF)])
        return out


def ctc_prefix_beam(log_probs: Tensor, lengths: Tensor, beam: int = 10, *, nbest: int = 1, blank: int = 0,
                    tokens_per_frame: int | None = None, scorer: Scorer | None = None, blank_skip: float | None = 0.99,
                    min_log_prob: float | None = -5.0, prune: float | None = 10.0, times: bool = True,
                    engine: str = "auto") -> list[list[CtcHypothesis]]:
    """Search whole utterances: log_probs [B, T, V] normalized, lengths [B] → n-best per utterance, best first.

    The other arguments are those of `PrefixBeam`. Three engines give the same result: "tensor" (this file), and on the CPU without a
    scorer "arrays" (prefix_beam_arrays.py, the whole batch together) and "scalar" (prefix_beam_scalar.py, plain arithmetic on the few
    tokens that a frame leaves open, utterance by utterance). "auto" takes the one that is expected to be the fastest.
    """
    search = PrefixBeam(beam, blank=blank, tokens_per_frame=tokens_per_frame, scorer=scorer, blank_skip=blank_skip,
                        min_log_prob=min_log_prob, prune=prune, times=times)
    able = scorer is None and log_probs.device.type == "cpu"
    if engine not in ENGINES or (engine not in ("auto", "tensor") and not able):
        raise ValueError(f"engine {engine!r}: there are auto, tensor and (on the CPU, without scorer) arrays, scalar")
    if engine == "tensor" or not able:
        state = search.advance(search.init(log_probs.shape[0], log_probs.device), log_probs, lengths)
        return search.nbest(state, nbest)
    check_frames(log_probs, lengths, blank)
    if not log_probs.shape[0] or not log_probs.shape[1]:
        return [[CtcHypothesis([], 0.0)] for _ in range(log_probs.shape[0])]
    found = open_frames(log_probs.detach(), lengths.cpu(), search.settings)
    scalar = _SCALAR_US * beam * (len(found.tokens) + 2 * len(found.item))
    arrays = int(found.kept.max()) * (_STEP_US + _ENTRY_US * beam * len(lengths) * (beam + 5 + 2 * int(found.counts.max(initial=0))))
    chosen = arrays_search if engine == "arrays" or (engine == "auto" and arrays < scalar) else scalar_search
    return chosen(found, search.settings, nbest)


def _join(chunks: list[tuple[Tensor, Tensor]], size: int) -> list[Any]:
    """All frames seen, per utterance [T, V] (numpy)."""
    if len(chunks) == 1:
        x = chunks[0][0].cpu().numpy()
        return [x[b, :n] for b, n in enumerate(chunks[0][1].tolist())]
    return [torch.cat([x[b, : int(n[b])] for x, n in chunks]).cpu().numpy() if chunks else None for b in range(size)]
