"""Inputs of an artifact's graphs on real speech: what tells which of their matrices do not bear INT8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from voxkit.export.encoder import MIN_SAMPLES
from voxkit.export.quantize import Feed
from voxkit.export.trace import Graph
from voxkit.runtime.artifact import Artifact, Encoded
from voxkit.runtime.decoder import greedy_tokens
from voxkit.runtime.recognizer import OnnxRecognizer
from voxkit.runtime.transducer import OnnxTransducer, greedy

_MEASURED = 4  # utterances
_TOKENS = 40  # of each that the decoder is asked for


def measuring_feeds(folder: Path, graphs: Sequence[Graph], audios: Sequence[np.ndarray]) -> dict[str, list[Feed]]:
    """Inputs by graph, those of later graphs made by the graphs before.

    Args:
        folder: an artifact in float32; graphs: as it was made of.
        audios: [S] float32 at 16 kHz; the shortest that fill a graph's least width are taken.
    """
    artifact = Artifact(folder, threads=1)
    if artifact.streaming is not None:
        return {"encoder": [{port.name: port.example.numpy() for port in graphs[0].inputs if port.example is not None}]}
    chosen = sorted((a for a in audios if len(a) >= MIN_SAMPLES), key=len)[:_MEASURED] or list(audios[:1])
    values = chosen if artifact.fbank is None else [artifact.fbank(a) for a in chosen]
    feeds: dict[str, list[Feed]] = {"encoder": [
        {artifact.meta["input"]: _wide(v, artifact.meta["least_input"])[None], "lengths": np.array([len(v)])} for v in values]}
    encoded = [e for e in artifact.encode(chosen) if len(e.states)]
    if "decoder" in artifact.meta["graphs"]:
        feeds["memory"] = [{"states": e.states[None]} for e in encoded]
        feeds["decoder"] = [_decoder_feed(artifact, e) for e in encoded]
    if "join" in artifact.meta["graphs"]:
        feeds |= _transducer_feeds(artifact, encoded)
    if "predictor" in artifact.meta["graphs"]:
        feeds["predictor"] = [{"states": e.states[None], "frames": np.array([len(e.states)])} for e in encoded]
        feeds["parallel"] = []
        for feed in feeds["predictor"]:
            vectors, counts = artifact.session("predictor").run(["vectors", "counts"], dict(feed))
            if counts[0]:
                feeds["parallel"].append({**feed, "vectors": vectors[:, :counts[0]], "counts": counts})
    return feeds


def _transducer_feeds(artifact: Artifact, encoded: Sequence[Encoded]) -> dict[str, list[Feed]]:
    """Every frame, behind the tokens that were said last before it."""
    head = OnnxTransducer(artifact)
    feeds: dict[str, list[Feed]] = {name: [] for name in ("hear", "say", "join")}
    for one in encoded:
        found, context, contexts = greedy(head, one.states), head.start, []
        said = dict(zip(found.frames, found.tokens))
        for frame in range(len(one.states)):
            contexts.append(context)
            context = [*context[1:], said[frame]] if frame in said else context
        feeds["hear"].append({"states": np.ascontiguousarray(one.states)})
        feeds["say"].append({"context": np.array(contexts)})
        feeds["join"].append({"heard": head.hear(one.states), "said": head.say(contexts)})
    return feeds


def _decoder_feed(artifact: Artifact, encoded: Encoded) -> Feed:
    """The tokens that CTC hears, or without it the decoder itself, as what the decoder is asked for."""
    decoder, vocabulary = OnnxRecognizer(artifact).decoder, artifact.vocabulary
    assert decoder is not None
    if encoded.log_probs is None:
        heard = greedy_tokens(decoder, encoded.states, encoded.frames, frozenset(vocabulary.specials))[0]
    else:
        heard = [t for t in encoded.log_probs.argmax(1).tolist() if t != vocabulary.blank]
    state = decoder.init_state(encoded.states[None], np.array([encoded.frames]))
    return {"tokens": np.array([[[decoder.bos, *heard[:_TOKENS]]]]), "parents": np.zeros((1, 1), np.int64), "past": state.past,
            "frames": state.frames, **state.cross}


def _wide(value: np.ndarray, least: int) -> np.ndarray:
    return np.pad(value, ((0, max(0, least - len(value))), *((0, 0),) * (value.ndim - 1))).astype(np.float32)
