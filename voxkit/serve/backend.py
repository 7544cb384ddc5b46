"""What the service asks of a model, be it a checkpoint (`torch_backend`) or an artifact (`onnx_backend`)."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from voxkit.hypothesis import Hypothesis
from voxkit.serve.inputs import Input
from voxkit.text.vocabulary import Vocabulary


class Asked(NamedTuple):
    """What is asked of utterances that share a batch.

    Attributes:
        kind: audio or features.
        words: whether word times are wanted.
        phrases: to favor by `boost` nats per token.
    """

    kind: str
    words: bool
    phrases: tuple[str, ...] = ()
    boost: float = 1.5


class Backend(Protocol):
    """A model and its search.

    Attributes:
        name: of the system. method: of the search. vocabulary: of the tokens.
        bins: values per frame of features; None: it takes audio alone.
        longest: seconds that it takes at once.
        calibration: {"temperature": ..., maybe "set": ...} of its confidences; None: they are as the model gives them.
        streaming: a `voxkit.runtime.streaming.StreamingRecognizer`; None: it hears whole utterances.
    """

    name: str
    method: str
    vocabulary: Vocabulary
    bins: int | None
    longest: float
    calibration: Mapping[str, Any] | None
    streaming: Any

    def recognize(self, items: Sequence[Input], asked: Asked, unwanted: threading.Event | None = None) -> list[Hypothesis]:
        """Inputs of one kind → hypotheses, in order; from any thread.

        Raises:
            Stopped: `unwanted` was set before it was done. ValueError: what cannot be recognized.
        """

    def check_phrases(self, phrases: Sequence[str], boost: float) -> None:
        """
        Raises:
            ValueError: phrases that its search does not take, or that cannot be spelled.
        """


def confidence(hypothesis: Hypothesis) -> float:
    """Of the whole: the geometric mean of its tokens' confidences, or of its words', or what its score says of a token; 0 of nothing."""
    found = hypothesis.token_confidences or [word.confidence for word in hypothesis.words]
    if found:
        return math.exp(sum(math.log(max(c, 1e-12)) for c in found) / len(found))
    return min(1.0, math.exp(hypothesis.score / len(hypothesis.tokens))) if hypothesis.tokens else 0.0


def answer(hypothesis: Hypothesis, vocabulary: Vocabulary) -> dict[str, Any]:
    """The JSON of POST /recognize."""
    out = hypothesis.to_json()
    pieces = vocabulary.pieces
    out["tokens"] = [{"token": pieces[t], "confidence": round(c, 4)} for t, c in zip(hypothesis.tokens, hypothesis.token_confidences)]
    return {"text": out.pop("text"), "confidence": round(confidence(hypothesis), 4), **out}
