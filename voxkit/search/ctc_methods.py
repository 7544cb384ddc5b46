"""The searches in the scores of a CTC head, as the options say: the same for every system that has one. Each gives lists, best first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voxkit.search.greedy import Greedy, ctc_greedy
from voxkit.search.heads import Heads, Heard
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.options import SearchOptions
from voxkit.search.prefix_beam import PrefixBeam, ctc_prefix_beam
from voxkit.text.vocabulary import Vocabulary

_CANDIDATES = 20


def greedy(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """The best token of every frame. Phrases are lent their boosts along one prefix, the beam of one hypothesis."""
    if options.context is not None:
        return ctc_prefix_beam(heard.ctc, heard.lengths, blank=heard.heads.blank, **_alone(options))
    return [[h] for h in ctc_greedy(heard.ctc, heard.lengths, heard.heads.blank)]


def prefix_beam(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[CtcHypothesis]]:
    """The beam over prefixes, with language model, phrases and bonus."""
    return ctc_prefix_beam(heard.ctc, heard.lengths, blank=heard.heads.blank, nbest=options.nbest, **beam_options(options))


def first_pass(heard: Heard, options: SearchOptions) -> list[list[CtcHypothesis]]:
    """The whole beam over prefixes, for a second pass."""
    return ctc_prefix_beam(heard.ctc, heard.lengths, blank=heard.heads.blank, nbest=options.beam, **beam_options(options))


class OverStates:
    """A search in a CTC head's scores that is fed with the encoder's states.

    Args:
        heads: with a CTC head; search: `Greedy` or `PrefixBeam`.
    """

    def __init__(self, heads: Heads, search: Greedy | PrefixBeam) -> None:
        self.heads, self.search = heads, search

    def init(self, size: int, device: torch.device | str = "cpu") -> Any:
        """State of `size` utterances before their first frame."""
        return self.search.init(size, device)

    def advance(self, state: Any, states: Tensor, lengths: Tensor) -> Any:
        """Consume states [B, T, D], lengths [B] valid ones → the search's state after them."""
        assert self.heads.ctc is not None
        return self.search.advance(state, self.heads.ctc(states), lengths)

    def nbest(self, state: Any, nbest: int = 1, *, final: bool = True) -> list[list[CtcHypothesis]]:
        """The best hypotheses of each utterance, best first; `final` False for partial results."""
        return self.search.nbest(state, nbest, final=final)


def stream_greedy(heads: Heads, options: SearchOptions) -> OverStates:
    """`greedy`, to be fed part by part. Without words a beam keeps no posteriors."""
    if options.context is None:
        return OverStates(heads, Greedy(heads.blank))
    return OverStates(heads, PrefixBeam(blank=heads.blank, **_alone(options), times=options.words))


def stream_prefix_beam(heads: Heads, options: SearchOptions) -> OverStates:
    """`prefix_beam`, to be fed part by part."""
    return OverStates(heads, PrefixBeam(blank=heads.blank, **beam_options(options), times=options.words))


def candidates(options: SearchOptions) -> int | None:
    """Tokens that a beam looks at in one place: more than usual with phrases, whose tokens the model itself may rank low."""
    return max(_CANDIDATES, 2 * options.beam) if options.context is not None else None


def beam_options(options: SearchOptions) -> dict[str, Any]:
    """Of `PrefixBeam`. With phrases no token is left out for being unlikely on a frame: the boost is there to change that."""
    return {"beam": options.beam, "scorer": options.scorer(), "tokens_per_frame": candidates(options),
            **({"min_log_prob": None} if options.context is not None else {})}


def _alone(options: SearchOptions) -> dict[str, Any]:
    """A beam of one, which knows of phrases and nothing else."""
    return {**beam_options(options), "beam": 1, "scorer": options.context}
