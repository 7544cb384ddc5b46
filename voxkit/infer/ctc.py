"""The searches in the scores of a CTC head, as the options say: the same for every system that has one. Each gives lists, best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from voxkit.search.attention import attention_rescore
from voxkit.search.greedy import Greedy, ctc_greedy
from voxkit.search.hypotheses import AttentionHypothesis, CtcHypothesis
from voxkit.search.prefix_beam import PrefixBeam, ctc_prefix_beam

if TYPE_CHECKING:
    from voxkit.infer.recognizer import SearchOptions

_CANDIDATES = 20


def greedy(log_probs: Tensor, lengths: Tensor, options: SearchOptions) -> list[list[CtcHypothesis]]:
    """The best token of every frame: log_probs [B, T, V], lengths [B]. Phrases are lent their boosts along one prefix, the beam of one
    hypothesis."""
    if options.context is not None:
        return ctc_prefix_beam(log_probs, lengths, **_beam_options(options))
    return [[h] for h in ctc_greedy(log_probs, lengths)]


def prefix_beam(log_probs: Tensor, lengths: Tensor, options: SearchOptions) -> list[list[CtcHypothesis]]:
    """The beam over prefixes, with language model, phrases and bonus."""
    return ctc_prefix_beam(log_probs, lengths, nbest=options.nbest, **_beam_options(options))


def incremental(options: SearchOptions) -> Greedy | PrefixBeam:
    """The search of `greedy` or `prefix_beam`, whichever the options name, to be fed part by part. Without words it keeps no posteriors."""
    if options.method == "greedy" and options.context is None:
        return Greedy()
    return PrefixBeam(**_beam_options(options), times=options.words)


def rescoring(log_probs: Tensor, lengths: Tensor, options: SearchOptions, states: Tensor,
              score: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> list[list[AttentionHypothesis]]:
    """The beam's hypotheses, ranked anew with a decoder's `score` of them (see `attention_rescore`): states [B, T, D]."""
    nbest = ctc_prefix_beam(log_probs, lengths, nbest=options.beam, **_beam_options(options))
    return attention_rescore(nbest, states, lengths, score, ctc_weight=options.ctc_weight)


def candidates(options: SearchOptions) -> int | None:
    """Tokens that a beam looks at in one place: more than usual with phrases, whose tokens the model itself may rank low."""
    return max(_CANDIDATES, 2 * options.beam) if options.context is not None else None


def _beam_options(options: SearchOptions) -> dict[str, Any]:
    """Of `PrefixBeam`. Greedy search with phrases is a beam of one that knows of nothing else. With phrases no token is left out for being
    unlikely on a frame: the boost is there to change that."""
    greedy = options.method in ("greedy", "ctc_greedy")
    return {"beam": 1 if greedy else options.beam, "scorer": options.context if greedy else options.scorer(),
            "tokens_per_frame": candidates(options), **({"min_log_prob": None} if options.context is not None else {})}
