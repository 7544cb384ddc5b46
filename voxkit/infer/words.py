"""Times and confidences of the words that a search found, by each of the ways in which a method's row says they can be had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from voxkit.align.attention import spoken_spans
from voxkit.align.cif import spans_from_fires
from voxkit.align.ctc import forced_align
from voxkit.align.monotone import monotone_path, refine
from voxkit.align.spans import TokenSpan, spans_from_peaks
from voxkit.align.words import words_from_tokens
from voxkit.hypothesis import Hypothesis
from voxkit.search.heads import Heard
from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import Vocabulary

Spans = Mapping[int, Sequence[TokenSpan]]  # index of an utterance → where its tokens are
Way = Callable[[Heard, Sequence[Hypothesis], Sequence[Any], Vocabulary], Spans]


def by_alignment(heard: Heard, hypotheses: Sequence[Hypothesis], chosen: Sequence[Any], vocabulary: Vocabulary) -> Spans:
    """CTC forced alignment of the tokens; none where a decoder said more than fits the frames. Without a CTC head: by attention."""
    if heard.heads.ctc is None:
        return by_attention(heard, hypotheses, chosen, vocabulary)
    kept = [i for i, h in enumerate(hypotheses) if h.tokens and _frames_needed(h.tokens) <= int(heard.lengths[i])]
    if not kept:
        return {}
    sizes = torch.tensor([len(hypotheses[i].tokens) for i in kept])
    tokens = torch.full((len(kept), int(sizes.max())), heard.heads.blank)
    for row, i in zip(tokens, kept):
        row[:len(hypotheses[i].tokens)] = torch.tensor(hypotheses[i].tokens)
    aligned = forced_align(heard.ctc[kept].cpu(), heard.lengths[kept].cpu(), tokens, sizes, heard.heads.blank)
    return {i: alignment.spans for i, alignment in zip(kept, aligned) if alignment is not None}


def by_attention(heard: Heard, hypotheses: Sequence[Hypothesis], chosen: Sequence[Any], vocabulary: Vocabulary) -> Spans:
    """Where the decoder looks while it says the tokens; none where no head of it is known to follow the audio."""
    decoder: Any = heard.heads.decoder
    kept = [i for i, h in enumerate(hypotheses) if h.tokens]
    if decoder is None or not decoder.alignment_heads or not kept:
        return {}
    followed = decoder.follow(heard.states[kept], heard.lengths[kept], [hypotheses[i].tokens for i in kept])
    return {i: spoken_spans(weights.cpu().numpy(), hypotheses[i].tokens, log_probs.tolist(), vocabulary,
                            frames=int(heard.lengths[i]), first=first) for i, (weights, log_probs, first) in zip(kept, followed)}


def by_peaks(heard: Heard | None, hypotheses: Sequence[Hypothesis], chosen: Sequence[Any], vocabulary: Vocabulary) -> Spans:
    """Where the search itself saw the tokens: the peaks of CTC, the emissions of a transducer."""
    return {i: spans_from_peaks(candidate) for i, candidate in enumerate(chosen)}


def by_fires(heard: Heard, hypotheses: Sequence[Hypothesis], chosen: Sequence[Any], vocabulary: Vocabulary) -> Spans:
    """Where CIF fires, which is where tokens end."""
    return {i: spans_from_fires(c.tokens, c.fires, c.token_log_probs, vocabulary, c.frame_weights) for i, c in enumerate(chosen)}


def by_head(heard: Heard, hypotheses: Sequence[Hypothesis], chosen: Sequence[Any], vocabulary: Vocabulary) -> Spans:
    """Along a monotone path with pauses through what an alignment head says of every frame; by CTC where there is none."""
    spans: dict[int, Sequence[TokenSpan]] = {}
    others = []
    for i, candidate in enumerate(chosen):
        if candidate.placed is None:
            others.append(i)
        elif candidate.placed.shape[1] >= len(candidate.placed) - 1:  # else more words than frames
            spans[i] = spans_of_words(candidate.tokens, candidate.token_log_probs, candidate.placed, vocabulary)
    if any(hypotheses[i].tokens for i in others):
        aligned = by_alignment(heard, hypotheses, chosen, vocabulary)
        spans.update({i: aligned[i] for i in others if i in aligned})
    return spans


def spans_of_words(tokens: Sequence[int], log_probs: Sequence[float], placed: torch.Tensor, vocabulary: Vocabulary) -> list[TokenSpan]:
    """Tokens with the place of their word, from log-probabilities [W + 1, T] that a frame belongs to no word, to each word."""
    edges = refine(monotone_path(placed[1:], placed[0]), placed[1:], placed[0])
    out = []
    for (_, places), (start, end) in zip(vocabulary.words(tokens), edges):
        out += [TokenSpan(tokens[n], start, end, log_probs[n], log_probs[n]) for n in places]
    return out


# how a row's `times` calls it → the spans, and whether what was fitted on where tokens spike applies
WAYS: dict[str, tuple[Way, bool]] = {"alignment": (by_alignment, True), "peaks": (by_peaks, True), "fires": (by_fires, False),
                                    "head": (by_head, False)}


def place_words(hypotheses: Sequence[Hypothesis], spans: Spans, vocabulary: Vocabulary, seconds_per_frame: float, options: SearchOptions,
                fitted: bool = True) -> None:
    """Give hypotheses the words that their spans make.

    Args:
        fitted: whether the options' timing applies.
    """
    for i, of_one in spans.items():
        hypotheses[i].words = words_from_tokens(of_one, vocabulary, seconds_per_frame, timing=options.timing if fitted else None,
                                                duration=hypotheses[i].audio_duration, temperature=options.temperature)


def _frames_needed(tokens: list[int]) -> int:
    """Of a CTC alignment: one per token, and a blank between two equal ones."""
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:]))
