"""The searches in the scores of a CTC head, as the options say: the same for every system that has one. Each gives lists, best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from voxkit.search.attention import attention_rescore
from voxkit.search.greedy import ctc_greedy
from voxkit.search.hypotheses import AttentionHypothesis, CtcHypothesis
from voxkit.search.prefix_beam import ctc_prefix_beam

if TYPE_CHECKING:
    from voxkit.infer.recognizer import SearchOptions

_CANDIDATES = 20


def greedy(log_probs: Tensor, lengths: Tensor, options: SearchOptions) -> list[list[CtcHypothesis]]:
    """The best token of every frame: log_probs [B, T, V], lengths [B]. Phrases are lent their boosts along one prefix, the beam of one
    hypothesis."""
    if options.context is not None:
        return ctc_prefix_beam(log_probs, lengths, 1, scorer=options.context, **_prefix_beam_options(options))
    return [[h] for h in ctc_greedy(log_probs, lengths)]


def prefix_beam(log_probs: Tensor, lengths: Tensor, options: SearchOptions) -> list[list[CtcHypothesis]]:
    """The beam over prefixes, with language model, phrases and bonus."""
    return _n_best(log_probs, lengths, options, options.nbest)


def rescoring(log_probs: Tensor, lengths: Tensor, options: SearchOptions, states: Tensor,
              score: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> list[list[AttentionHypothesis]]:
    """The beam's hypotheses, ranked anew with a decoder's `score` of them (see `attention_rescore`): states [B, T, D]."""
    nbest = _n_best(log_probs, lengths, options, options.beam)
    return attention_rescore(nbest, states, lengths, score, ctc_weight=options.ctc_weight)


def candidates(options: SearchOptions) -> int | None:
    """Tokens that a beam looks at in one place: more than usual with phrases, whose tokens the model itself may rank low."""
    return max(_CANDIDATES, 2 * options.beam) if options.context is not None else None


def _n_best(log_probs: Tensor, lengths: Tensor, options: SearchOptions, nbest: int) -> list[list[CtcHypothesis]]:
    return ctc_prefix_beam(log_probs, lengths, options.beam, nbest=nbest, scorer=options.scorer(), **_prefix_beam_options(options))


def _prefix_beam_options(options: SearchOptions) -> dict[str, Any]:
    """With phrases no token is left out for being unlikely on a frame: the boost is there to change that."""
    return {"tokens_per_frame": candidates(options), **({"min_log_prob": None} if options.context is not None else {})}
