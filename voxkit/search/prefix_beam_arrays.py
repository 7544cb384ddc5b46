"""CTC prefix beam search of a batch as NumPy arrays, on the CPU and without a scorer.

The step of voxkit/search/prefix_beam.py for all utterances together, with probabilities instead of logarithms and only the tokens that
a frame leaves open. A step is a frame that is no sure blank; utterances with many of them come first, so that those that are over take
no part. Same result as the other two (tested).
"""

from __future__ import annotations

import math

import numpy as np

from voxkit.search.beam_settings import BeamSettings
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.open_frames import OpenFrames
from voxkit.search.peaks import backtrace, token_peaks

_MIX = 6364136223846793005  # as in prefix_beam.py: a prefix is a 64-bit hash of its tokens
_NONE, _DEAD = -1, 0  # parent of no prefix, hash of an empty slot
_TINY = 1e-300


def arrays_search(found: OpenFrames, search: BeamSettings, nbest: int) -> list[list[CtcHypothesis]]:
    """The search of `PrefixBeam` in what the posteriors leave open."""
    size, width, vocab = len(found.lengths), search.beam, found.log_probs.shape[2]
    worst = math.exp(-search.prune) if search.prune is not None else 0.0
    order = np.argsort(-found.kept, kind="stable")
    kept = found.kept[order]
    first = (np.cumsum(found.kept) - found.kept)[order]  # row of each utterance's first frame
    steps = int(kept[0])
    tokens, probs = _padded(found)
    blanks, skipped = np.exp(found.log_blank[found.item, found.frame]), _after_blanks(found)
    flat = found.log_probs.reshape(-1)
    corner = (found.item * found.log_probs.shape[1] + found.frame) * vocab  # where a row begins in it

    blanked, held = np.zeros((2, size, width))  # probabilities of ending in blank and in the last token; the best sum is 1
    blanked[:, 0] = 1.0
    hashes, parents = np.full((size, width), _DEAD), np.full((size, width), _NONE)
    hashes[:, 0] = 1
    last, node = np.full((size, width), -1), np.zeros((size, width), dtype=np.int64)
    scale = np.zeros(size)  # natural logarithm of what was divided by
    path_parents, path_tokens = np.zeros((2, size, steps, width), dtype=np.int64)
    path_frames = np.zeros((size, steps), dtype=np.int64)
    for s in range(steps):
        n = int(np.searchsorted(-kept, -s))  # utterances that have so many frames
        row, slots = first[:n] + s, np.arange(n)[:, None] * width
        count = max(1, int(found.counts[row].max()))
        token, p = tokens[row, None, :count], probs[row, None, :count]
        ending, own = blanked[:n], last[:n]
        total = ending + held[:n]
        holding = held[:n]
        if skipped[row].any():
            gone = skipped[row, None]
            ending, holding = np.where(gone, total, ending), np.where(gone, 0.0, holding)
        origin = (parents[:n, :, None] == hashes[:n, None, :]).argmax(2) + slots  # the hypothesis that one is a token longer than
        grown = hashes[:n].take(origin) == parents[:n]
        arriving = np.where(own.take(origin) == own, ending.take(origin), total.take(origin)) * grown
        stay_held = (holding + arriving) * np.exp(flat.take(corner[row, None] + np.maximum(own, 0)).astype(np.float64))
        stay_blank = total * blanks[row, None]
        repeats = own[:, :, None] == token
        extension = np.where(repeats, ending[:, :, None], total[:, :, None]) * p
        met = np.flatnonzero(repeats & grown[:, :, None])  # the beam has that prefix: what comes to it is `arriving`
        extension.reshape(-1)[origin.take(met // count) * count + met % count] = 0.0
        scores = np.concatenate([stay_blank + stay_held, extension.reshape(n, -1)], axis=1)
        index = np.argpartition(scores, scores.shape[1] - width, axis=1)[:, -width:]
        top = scores.take(index + np.arange(n)[:, None] * scores.shape[1])
        best = top.max(1, keepdims=True)
        dead, new = top <= best * worst, index >= width
        column = (index - width) % count
        source = np.where(new, (index - width) // count, index) + slots
        said = np.where(new, token.take(column + np.arange(n)[:, None] * count), -1)
        path_parents[:n, s], path_tokens[:n, s], path_frames[:n, s] = node.take(source), said, found.frame[row]
        before = hashes.take(source)
        after = (before ^ (said + 1)) * _MIX
        after ^= after >> 29
        by = np.maximum(best, _TINY)
        blanked[:n] = np.where(new | dead, 0.0, stay_blank.take(source) / by)
        held[:n] = np.where(dead, 0.0, np.where(new, top, stay_held.take(source)) / by)
        parents[:n] = np.where(dead, _NONE, np.where(new, before, parents.take(source)))
        hashes[:n] = np.where(dead, _DEAD, np.where(new, after, before))
        last[:n] = np.where(new, said, own.take(source))
        node[:n] = np.where(new, 1 + s * width + np.arange(width), node.take(source))
        scale[:n] += np.log(by[:, 0])
    scale += _sure_blanks(found)[order]
    out: list[list[CtcHypothesis]] = [[] for _ in range(size)]
    paths = path_parents.reshape(size, -1), path_tokens.reshape(size, -1), path_frames
    for place, b in enumerate(order.tolist()):
        out[b] = _best(blanked[place] + held[place], node[place], scale[place], tuple(array[place] for array in paths),
                       found.log_probs[b, :found.lengths[b]], search, nbest)
    return out


def _best(total: np.ndarray, node: np.ndarray, scale: float, path: tuple[np.ndarray, ...], posteriors: np.ndarray, search: BeamSettings,
          nbest: int) -> list[CtcHypothesis]:
    """The best hypotheses of one utterance."""
    found = []
    for slot in np.argsort(-total, kind="stable")[:nbest].tolist():
        if total[slot] <= 0:
            continue
        tokens, starts = backtrace(*path, search.beam, int(node[slot]))
        score = float(scale + math.log(total[slot]))
        hypothesis = CtcHypothesis(tokens, score, starts, [], score)
        if search.times and tokens:
            hypothesis.frames, hypothesis.token_log_probs = token_peaks(posteriors, tokens, starts)
        found.append(hypothesis)
    return found or [CtcHypothesis([], -math.inf, ctc_score=-math.inf)]


def _padded(found: OpenFrames) -> tuple[np.ndarray, np.ndarray]:
    """Open tokens and their probabilities [N, K], with room for one at least; -2 and 0 where a frame has fewer."""
    shape = len(found.item), max(1, int(found.counts.max(initial=0)))
    there = np.arange(shape[1]) < found.counts[:, None]
    tokens, probs = np.full(shape, -2), np.zeros(shape)
    tokens[there], probs[there] = found.tokens, found.probs
    return tokens, probs


def _after_blanks(found: OpenFrames) -> np.ndarray:
    """[N] whether sure blanks stand right before a frame."""
    before = np.diff(found.frame, prepend=-1) > 1
    others = np.diff(found.item, prepend=-1) > 0  # the first of an utterance
    return np.where(others, found.frame > 0, before)


def _sure_blanks(found: OpenFrames) -> np.ndarray:
    """[B] log-probability of all sure blanks."""
    sure = np.arange(found.log_blank.shape[1]) < found.lengths[:, None]
    sure[found.item, found.frame] = False
    return np.where(sure, found.log_blank, 0.0).sum(1)
