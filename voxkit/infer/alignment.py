"""Word times for utterances whose text is known: forced alignment by a recognizer's CTC head or its transducer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from voxkit.align.ctc import forced_align
from voxkit.align.spans import TokenSpan
from voxkit.align.timing import TokenTiming, WordTiming
from voxkit.align.transducer import transducer_align
from voxkit.align.words import words_from_tokens
from voxkit.batch import Batch, audio_batch
from voxkit.data.reader import load_samples
from voxkit.hypothesis import Hypothesis
from voxkit.infer.words import spans_of_words
from voxkit.search.heads import NAMES
from voxkit.search.llm_methods import read_again


@dataclass
class Aligned:
    """spans of the tokens of a text in frames; score: log-probability of the path; seconds of audio."""

    spans: list[TokenSpan]
    score: float
    tokens: list[int]
    seconds: float


@torch.inference_mode()
def align_spans(recognizer: Any, batch: Batch, text: str, head: str = "ctc") -> Aligned:
    """A batch of one utterance, of audio or features, and its text → where its tokens are.

    Args:
        recognizer: with `model` (`encode`, `heads`, `seconds_per_frame`) and `vocabulary`.
        head: by which one: ctc or transducer.

    Raises:
        ValueError: no text, characters that the tokenizer lacks, more than fits the utterance, or input that the model does not take.
    """
    if not text:
        raise ValueError("the text is empty: there is nothing to align")
    if getattr(recognizer.model.heads, head) is None:
        raise ValueError(f"--method {head} aligns by {NAMES[head]}, and this model has none (model.loss.{head} is 0, or it is of another "
                         "kind)")
    tokens, model = recognizer.vocabulary.encode(text), recognizer.model
    if recognizer.vocabulary.unk in tokens:
        raise ValueError(f"the text {text!r} holds characters that the tokenizer lacks: write it as the transcripts of the training were "
                         "written (see --normalize)")
    states, lengths, seconds, _ = model.encode(batch.to(getattr(recognizer, "device", "cpu")))
    texts, sizes = torch.tensor([tokens]), torch.tensor([len(tokens)])
    if head == "transducer":
        by_steps = transducer_align(model.heads.transducer, states, lengths, texts.to(states.device), sizes.to(states.device))[0]
        return Aligned(by_steps.spans, by_steps.score, tokens, float(seconds[0]))
    aligned = forced_align(model.heads.ctc(states).cpu(), lengths.cpu(), texts, sizes, model.heads.blank)[0]
    assert aligned is not None, "strict alignment raises where there is none"
    return Aligned(aligned.spans, aligned.score, tokens, float(seconds[0]))


@torch.inference_mode()
def align_by_head(recognizer: Any, batch: Batch, text: str, *, offset: float = 0.0) -> Hypothesis:
    """A batch of one utterance and its text → word times along a monotone path with pauses, by a language model's alignment head, and exact
    probabilities of the text.

    Raises:
        ValueError: no text, a model without an alignment head that has learned anything, or more words than frames.
    """
    model, vocabulary = recognizer.model, recognizer.vocabulary
    if not text.split():
        raise ValueError("the text is empty: there is nothing to align")
    if model.heads.llm is None:
        raise ValueError("--method head aligns by a language model's alignment head, and this model has none; use --method ctc")
    states, lengths, seconds, _ = model.encode(batch.to(getattr(recognizer, "device", "cpu")))
    tokens = vocabulary.encode(text)
    found = read_again(model.heads.llm, states, lengths, [tokens], vocabulary)[0]
    if found.placed is None:
        raise ValueError("--method head: the alignment head of this model has learned nothing yet; train it (phase 2 of the recipe), or "
                         "use --method ctc")
    spans = spans_of_words(tokens, found.token_log_probs, found.placed, vocabulary)
    duration = float(seconds[0])
    words = words_from_tokens(spans, vocabulary, model.seconds_per_frame, duration=duration, offset=offset)
    return Hypothesis(text, words, found.score, tokens, duration)


def align_utterance(recognizer: Any, batch: Batch, text: str, timing: TokenTiming | WordTiming | None = None, *,
                    offset: float = 0.0, head: str = "ctc") -> Hypothesis:
    """The same → Hypothesis with word times, `offset` seconds added."""
    aligned = align_spans(recognizer, batch, text, head)
    words = words_from_tokens(aligned.spans, recognizer.vocabulary, recognizer.model.seconds_per_frame, timing=timing,
                              duration=aligned.seconds, offset=offset)
    return Hypothesis(text, words, aligned.score, aligned.tokens, aligned.seconds)


def align_cuts(recognizer: Any, cuts: Any, head: str = "ctc") -> dict[str, Aligned]:
    """Every cut with its own text, one by one; those whose audio cannot be read, or whose text does not fit it, are left out."""
    out = {}
    for cut in cuts:
        try:
            wave = torch.from_numpy(load_samples(cut))
            out[cut.id] = align_spans(recognizer, audio_batch(wave, cut.id), cut.supervisions[0].text, head)
        except ValueError:
            continue
    if not out:
        raise ValueError("no utterance can be aligned with its text: is it the right text for this model?")
    return out
