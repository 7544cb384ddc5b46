"""The searches over a transducer, as the options say. Each gives lists, best first."""

from __future__ import annotations

from typing import Any

from voxkit.search.heads import Heads, Heard
from voxkit.search.hypotheses import TransducerHypothesis
from voxkit.search.options import SearchOptions
from voxkit.search.transducer import TransducerGreedy
from voxkit.search.transducer_beam import TransducerBeam
from voxkit.text.vocabulary import Vocabulary

# by which power of its tokens a score is divided, where the options do not say: icefall's searches rank by the mean too
BY_LENGTH = 1.0


def greedy(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[TransducerHypothesis]]:
    """The most likely step again and again. Phrases are lent their boosts along one hypothesis, a beam of one."""
    return _whole(stream_greedy(heard.heads, options), heard, 1)


def beam(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[TransducerHypothesis]]:
    """At most one token a frame, equal texts summed, with language model, phrases and bonus."""
    return _whole(stream_beam(heard.heads, options), heard, options.nbest)


def stream_greedy(heads: Heads, options: SearchOptions) -> TransducerGreedy | TransducerBeam:
    """`greedy`, to be fed part by part."""
    if options.context is None:
        return TransducerGreedy(heads.transducer, options.symbols_per_frame)
    return TransducerBeam(heads.transducer, 1, scorer=options.context)


def stream_beam(heads: Heads, options: SearchOptions) -> TransducerBeam:
    """`beam`, to be fed part by part."""
    power = BY_LENGTH if options.length_power is None else options.length_power
    return TransducerBeam(heads.transducer, options.beam, scorer=options.scorer(), internal_lm_weight=options.internal_lm_weight,
                          length_power=power)


def _whole(search: Any, heard: Heard, nbest: int) -> list[list[TransducerHypothesis]]:
    start = search.init(len(heard.states), heard.states.device)
    return search.nbest(search.advance(start, heard.states, heard.lengths), nbest)
