"""Paraformer from an artifact: all tokens at once, one for each of the vectors that the predictor fires (voxkit/export/parallel.py)."""

from __future__ import annotations

import math

import numpy as np

from voxkit.align.cif import spans_from_fires
from voxkit.align.words import words_from_tokens
from voxkit.hypothesis import Hypothesis
from voxkit.runtime.artifact import Artifact, Encoded


def recognize_parallel(artifact: Artifact, encoded: Encoded, words: bool, temperature: float) -> Hypothesis:
    """Encoder states of one utterance → the best token of every place, with token confidences.

    Args:
        words: also give word times, from where CIF fires, and confidences.
    """
    vocabulary = artifact.vocabulary
    if not len(encoded.states):
        return Hypothesis("", audio_duration=encoded.seconds)
    states, frames = encoded.states[None], np.array([len(encoded.states)], dtype=np.int64)
    vectors, counts, times, weights = artifact.session("predictor").run(
        ["vectors", "counts", "times", "weights"], {"states": states, "frames": frames})
    count = int(counts[0])
    if not count:
        return Hypothesis("", audio_duration=encoded.seconds)
    (log_probs,) = artifact.session("parallel").run(["log_probs"], {
        "vectors": np.ascontiguousarray(vectors[:, :count]), "counts": counts, "states": states, "frames": frames})
    scores = log_probs[0].copy()
    scores[:, [i for i in (vocabulary.blank, vocabulary.bos, vocabulary.eos) if i is not None]] = -np.inf
    tokens = scores.argmax(1).tolist()
    peaks = scores.max(1).tolist()
    out = Hypothesis(vocabulary.decode(tokens), [], float(sum(peaks)), tokens, encoded.seconds,
                     [min(1.0, math.exp(p / temperature)) for p in peaks])
    if words:
        spans = spans_from_fires(tokens, times[0, :count].tolist(), peaks, vocabulary, weights[0].tolist())
        out.words = words_from_tokens(spans, vocabulary, artifact.seconds_per_frame, duration=encoded.seconds, temperature=temperature)
    return out
