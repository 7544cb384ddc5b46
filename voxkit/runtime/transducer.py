"""The searches over an exported transducer, in numpy: what voxkit.search.transducer and transducer_beam do, one utterance at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voxkit.runtime.artifact import Artifact
from voxkit.runtime.scorers import TokenScorer
from voxkit.search.hypotheses import TransducerHypothesis

_CANDIDATES = 20
_TEXT = tuple[int, ...]


class OnnxTransducer:
    """The graphs `hear`, `say` and `join` (voxkit/export/transducer.py).

    Args:
        artifact: with these.
    """

    def __init__(self, artifact: Artifact) -> None:
        about = artifact.meta["transducer"]
        self.blank, self.start = int(about["blank"]), list(about["context"])
        self._hear, self._say, self._join = (artifact.session(name) for name in ("hear", "say", "join"))

    def hear(self, states: np.ndarray) -> np.ndarray:
        """[T, D] → [T, J]."""
        return self._hear.run(["heard"], {"states": np.ascontiguousarray(states)})[0]

    def say(self, contexts: list[list[int]]) -> np.ndarray:
        """Last tokens of N hypotheses → [N, J]."""
        return self._say.run(["said"], {"context": np.array(contexts, dtype=np.int64)})[0]

    def join(self, heard: np.ndarray, said: np.ndarray) -> np.ndarray:
        """[N, J] each → log-probabilities [N, V]."""
        return self._join.run(["log_probs"], {"heard": heard, "said": said})[0]

    def internal_lm(self, said: np.ndarray) -> np.ndarray:
        """[N, J] → log-probabilities of tokens as the transducer expects them unheard [N, V]; blank has minus infinity."""
        width = self._hear.get_inputs()[0].shape[1]
        silent = np.repeat(self.hear(np.zeros((1, width), np.float32)), len(said), axis=0)
        scores = self.join(silent, said).astype(np.float64)
        scores[:, self.blank] = -np.inf
        return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def greedy(head: OnnxTransducer, states: np.ndarray, symbols: int = 1) -> TransducerHypothesis:
    """The most likely step again and again.

    Args:
        states: [T, D]; symbols: tokens that a frame may emit.
    """
    heard, context, found = head.hear(states), list(head.start), TransducerHypothesis([], 0.0)
    said, at, emitted = head.say([context]), 0, 0
    while at < len(heard):  # as long as all frames are blank, what was said stays the same: several are looked at together
        frames = heard[at:at + 8]
        scores = head.join(frames, np.repeat(said, len(frames), axis=0))
        for row in scores:
            token = int(row.argmax())
            found.score += float(row[token])
            if token == head.blank:
                at, emitted = at + 1, 0
                continue
            found.tokens.append(token)
            found.frames.append(at)
            found.token_log_probs.append(_among_tokens(float(row[token]), float(row[head.blank])))
            context = [*context[1:], token]
            said = head.say([context])
            at, emitted = (at + 1, 0) if emitted + 1 == symbols else (at, emitted + 1)
            break
    found.parts = {"transducer": found.score}
    return found


@dataclass
class _Text:
    """One hypothesis: log-probability by the transducer and by scorers, the scorer's state, what the joiner takes; where its tokens came
    and how likely they were."""

    own: float
    fused: float
    scored: Any
    said: np.ndarray
    frames: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


def beam_search(head: OnnxTransducer, states: np.ndarray, beam: int = 4, *, scorer: TokenScorer | None = None,
                internal_lm_weight: float = 0.0, length_power: float = 0.0, prune: float = 10.0,
                nbest: int = 1) -> list[TransducerHypothesis]:
    """At most one token a frame, alignments of equal texts summed (voxkit.search.transducer_beam, whose arguments these are).

    Args:
        states: [T, D].
    """
    plain = scorer is None and not internal_lm_weight
    candidates = beam if plain else max(_CANDIDATES, 2 * beam)
    texts: dict[_TEXT, _Text] = {(): _Text(0.0, 0.0, scorer.start() if scorer is not None else None, head.say([head.start])[0])}
    for frame, heard in enumerate(head.hear(states)):
        rows = list(texts)
        said = np.stack([texts[key].said for key in rows])
        scores = head.join(np.repeat(heard[None], len(rows), axis=0), said).astype(np.float64)
        blanks = scores[:, head.blank].copy()
        before = {key: (texts[key].own, texts[key].frames, texts[key].log_probs) for key in rows}
        places = {key: n for n, key in enumerate(rows)}
        arrivals = [(places[key[:-1]], key[:-1], key) for key in rows if key and key[:-1] in places]
        for n, key in enumerate(rows):
            texts[key].own += float(blanks[n])
        for n, key, longer in arrivals:  # by its last token, after the hypothesis that is its beginning
            p = float(scores[n, longer[-1]])
            text, (own, frames, log_probs) = texts[longer], before[key]
            if own + p > text.own:  # then its last token is most likely in this frame
                text.frames, text.log_probs = [*frames, frame], [*log_probs, _among_tokens(p, float(blanks[n]))]
            text.own = float(np.logaddexp(text.own, own + p))
            scores[n, longer[-1]] = -np.inf
        scores[:, head.blank] = -np.inf
        texts = _following(head, texts, rows, before, scores, blanks, frame, beam, min(candidates, scores.shape[1] - 1), scorer,
                           internal_lm_weight, prune)
    out = []
    for key, text in texts.items():
        fused = text.fused + (scorer.end(text.scored) if scorer is not None else 0.0)
        out.append(TransducerHypothesis(list(key), (text.own + fused) / (len(key) + 1) ** length_power, text.frames, text.log_probs,
                                        {"transducer": text.own, "fused": fused}))
    return sorted(out, key=lambda h: -h.score)[:nbest]


def _following(head: OnnxTransducer, texts: dict[_TEXT, _Text], rows: list[_TEXT], before: dict[_TEXT, tuple], scores: np.ndarray,
               blanks: np.ndarray, frame: int, beam: int, count: int, scorer: TokenScorer | None, internal_lm_weight: float,
               prune: float) -> dict[_TEXT, _Text]:
    """The beam behind a frame: the texts that are there, and those that a token makes new."""
    chosen = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    gains, after = np.zeros(chosen.shape), {}
    if internal_lm_weight:
        said = np.stack([texts[key].said for key in rows])
        gains -= internal_lm_weight * np.take_along_axis(head.internal_lm(said), chosen, axis=1)
    if scorer is not None:
        for n, key in enumerate(rows):
            for k, token in enumerate(chosen[n].tolist()):
                gain, after[n, k] = scorer.step(texts[key].scored, token)
                gains[n, k] += gain
    ranked: list[tuple[float, int, int]] = [(texts[key].own + texts[key].fused, n, -1) for n, key in enumerate(rows)]
    for n, key in enumerate(rows):
        opening = before[key][0] + texts[key].fused
        ranked += [(opening + float(scores[n, token] + gains[n, k]), n, k) for k, token in enumerate(chosen[n].tolist())
                   if scores[n, token] > -math.inf]
    ranked.sort(key=lambda entry: -entry[0])
    least, kept, new = ranked[0][0] - prune, {}, []
    for score, n, k in ranked[:beam]:
        if score < least or score == -math.inf:
            break
        key = rows[n]
        if k < 0:
            kept[key] = texts[key]
            continue
        token, (own, frames, log_probs) = int(chosen[n, k]), before[key]
        p = float(scores[n, token])
        kept[key + (token,)] = _Text(own + p, texts[key].fused + float(gains[n, k]), after.get((n, k)), texts[key].said, [*frames, frame],
                                     [*log_probs, _among_tokens(p, float(blanks[n]))])
        new.append(key + (token,))
    if new:  # the decoder runs for these alone
        size = len(head.start)
        for key, said in zip(new, head.say([[*head.start, *key][-size:] for key in new])):
            kept[key].said = said
    return kept or {rows[0]: texts[rows[0]]}


def _among_tokens(log_prob: float, blank: float) -> float:
    """Log-probability of a token where blank's is known to be no choice, from both among all."""
    return min(0.0, log_prob - math.log(max(-math.expm1(blank), 1e-12)))
