"""What the service asks of a recognizer: batches of inputs → hypotheses, and what it says about itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from voxkit.batch import Batch, Padded
from voxkit.hypothesis import Hypothesis
from voxkit.infer.recognizer import Recognizer, SearchOptions
from voxkit.serve.inputs import Input
from voxkit.serve.stopping import stoppable


def feature_bins(recognizer: Recognizer) -> int | None:
    """Values per frame that the model takes; None where it takes audio alone."""
    fbank = getattr(getattr(recognizer.model, "front_end", None), "fbank", None)  # Whisper has no front end of ours
    return None if fbank is None else fbank.num_bins


def recognize(recognizer: Recognizer, items: Sequence[Input], options: SearchOptions, key: tuple[str, bool],
              unwanted: threading.Event | None = None) -> list[Hypothesis]:
    """Inputs of one kind → hypotheses, in order; key is (kind, words wanted).

    Raises:
        Stopped: `unwanted` was set before it was done.
    """
    kind, words = key
    values = Padded.of([torch.from_numpy(item.values) for item in items])
    batch = Batch(ids=[f"request {i}" for i in range(len(items))], **{kind: values})
    with stoppable(unwanted):
        words = words or not recognizer.method(options.method).scores_tokens
        return recognizer.recognize(batch, replace(options, words=words))


def answer(hypothesis: Hypothesis, recognizer: Recognizer) -> dict[str, Any]:
    """The JSON of a result. Most searches give a confidence per token, others per word; the whole is their geometric mean."""
    out = hypothesis.to_json()
    pieces = recognizer.vocabulary.pieces
    out["tokens"] = [{"token": pieces[t], "confidence": round(c, 4)} for t, c in zip(hypothesis.tokens, hypothesis.token_confidences)]
    found = hypothesis.token_confidences or [w.confidence for w in hypothesis.words]
    whole = torch.tensor(found, dtype=torch.float64).clamp(min=1e-12).log().mean().exp().item() if found else 0.0
    return {"text": out.pop("text"), "confidence": round(whole, 4), **out}
