"""The searches by an autoregressive decoder, alone, jointly with CTC, or in a second pass over what CTC found."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from voxkit.search.attention import attention_beam, attention_rescore
from voxkit.search.ctc_length import expected_tokens
from voxkit.search.ctc_methods import candidates, first_pass
from voxkit.search.generation import generate
from voxkit.search.hallucination import DOUBTED, nobody_speaks
from voxkit.search.heads import Heard
from voxkit.search.hypotheses import AttentionHypothesis
from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import Vocabulary

ALONE, JOINTLY = 0.5, 0.0  # by which power of its length a score is divided where the options do not say


def greedy(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[AttentionHypothesis]]:
    """The decoder's likeliest token at every step, until the end, a loop, or as many tokens as so much audio can hold."""
    decoder = heard.heads.decoder
    assert decoder is not None
    said = generate(decoder, heard.states, heard.lengths, decoder.limit(heard.lengths),
                    forbidden={*vocabulary.specials, decoder.bos}, rule=options.stop)
    found = [AttentionHypothesis(one.tokens, one.score, one.token_log_probs, parts={"attention": one.score},
                                 stopped="loop" if one.ended == "loop" else "") for one in said]
    return [[one] for one in _without_silence(heard, options, found)]


def attention(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[AttentionHypothesis]]:
    """The decoder alone; where there is a CTC head it tells how long a text may be."""
    found = _beam(heard, options, vocabulary, ALONE)
    best = _without_silence(heard, options, [row[0] for row in found])
    return [row if one is row[0] else [one] for one, row in zip(best, found)]


def _without_silence(heard: Heard, options: SearchOptions, found: list[AttentionHypothesis]) -> list[AttentionHypothesis]:
    """Nothing in the place of what a decoder says that hears nobody speak. It is asked about doubtful texts alone."""
    decoder = heard.heads.decoder
    assert decoder is not None
    if options.stop is None or decoder.silence is None:
        return found
    means = [sum(one.token_log_probs) / (len(one.tokens) + 1) for one in found]
    doubtful = [i for i, one in enumerate(found) if one.tokens and means[i] < DOUBTED]
    if not doubtful:
        return found
    silent = [i for i, p in zip(doubtful, decoder.quiet(heard.states[doubtful], heard.lengths[doubtful]).tolist())
              if nobody_speaks(means[i], p)]
    return [AttentionHypothesis([], one.score, stopped="silence") if i in silent else one for i, one in enumerate(found)]


def joint(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[AttentionHypothesis]]:
    """Decoder and CTC in one pass."""
    return _beam(heard, options, vocabulary, JOINTLY, ctc_log_probs=heard.ctc, ctc_weight=options.ctc_weight)


def rescoring(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[AttentionHypothesis]]:
    """CTC's beam, ranked anew with the decoder's score of its hypotheses."""
    assert heard.heads.decoder is not None
    return attention_rescore(first_pass(heard, options), heard.states, heard.lengths, heard.heads.decoder.score,
                             ctc_weight=options.ctc_weight)


def _beam(heard: Heard, options: SearchOptions, vocabulary: Vocabulary, power: float, **ctc: Any) -> list[list[AttentionHypothesis]]:
    decoder, expected = heard.heads.decoder, _expected(heard, options)
    assert decoder is not None
    return attention_beam(
        decoder, heard.states, heard.lengths, options.beam, blank=heard.heads.blank if heard.heads.ctc is not None else None,
        forbidden=vocabulary.specials, nbest=options.nbest, scorer=options.scorer(with_bonus=False), token_bonus=options.length_bonus,
        expected=expected, length_limit=options.length_limit, length_power=power if options.length_power is None else options.length_power,
        coverage=options.coverage, candidates=candidates(options), most_tokens=decoder.limit(heard.lengths), **ctc)


def _expected(heard: Heard, options: SearchOptions) -> Tensor | None:
    if options.length_limit == math.inf or heard.heads.ctc is None:
        return None
    return expected_tokens(heard.ctc, heard.lengths, heard.heads.blank)
