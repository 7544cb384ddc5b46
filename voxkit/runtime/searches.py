"""How an artifact is searched: the options, and for each method the search that it names (voxkit/search/method.py, without tensors)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from voxkit.runtime import transducer
from voxkit.runtime.artifact import Artifact, Encoded
from voxkit.runtime.attention import BeamOptions, attention_beam, expected_tokens, rescore
from voxkit.runtime.decoder import OnnxDecoder, PromptedDecoder, greedy_tokens
from voxkit.runtime.greedy import Greedy
from voxkit.runtime.prefix_beam import PrefixBeam
from voxkit.runtime.scorers import Bonus, Ngram, Phrases, combine
from voxkit.runtime.segments import SegmentOptions
from voxkit.runtime.transducer import OnnxTransducer
from voxkit.search.hallucination import DOUBTED, nobody_speaks
from voxkit.search.hypotheses import CtcHypothesis
from voxkit.search.ngram_table import NgramTable
from voxkit.text.vocabulary import Vocabulary

_CANDIDATES = 20


@dataclass
class SearchOptions:
    """How to search; the names are those of voxkit.infer.SearchOptions.

    Attributes:
        method: one of `OnnxRecognizer.methods()`.
        beam: hypotheses kept.
        ctc_weight: of CTC in joint decoding and rescoring.
        lm, lm_weight: n-gram (`OnnxRecognizer.language_model`), and its weight.
        context: phrases to favor (`OnnxRecognizer.phrases`).
        length_bonus, length_limit, length_power, coverage: of the decoder's beam; no length_power: 0.5 alone, 0 jointly with CTC.
        internal_lm_weight: of the transducer's own language model, which its beam subtracts; symbols_per_frame: tokens that a frame of its
            greedy search may emit.
        words: also give word times and confidences. times: by forced "alignment", or the "peaks" that a CTC search saw.
        temperature: of the confidences; None: as fitted for the method, where the artifact holds that, else 1.
        segments: how long recordings are cut.
    """

    method: str = "greedy"
    beam: int = 10
    ctc_weight: float = 0.3
    lm: NgramTable | None = None
    lm_weight: float = 0.3
    context: Phrases | None = None
    length_bonus: float = 0.0
    length_limit: float = 1.2
    length_power: float | None = None
    coverage: float = 0.0
    internal_lm_weight: float = 0.0
    symbols_per_frame: int = 1
    words: bool = False
    times: str = "alignment"
    temperature: float | None = None
    segments: SegmentOptions = SegmentOptions()

    def scorer(self, bonus: bool = True) -> Any:
        """Language model, phrases and bonus as one; None where there is none."""
        return combine([Ngram(self.lm, self.lm_weight) if self.lm is not None and self.lm_weight else None,
                        Bonus(self.length_bonus) if bonus and self.length_bonus else None, self.context])

    @property
    def most(self) -> float:
        """What the scorer can add at the most for one token."""
        return self.context.table.most if self.context is not None else 0.0


@dataclass
class SearchResult:
    """What a search says: tokens, score, and the frames where CTC or a transducer saw them, empty where none did; token_log_probs
    likewise."""

    tokens: list[int]
    score: float
    frames: list[int]
    token_log_probs: list[float]


@dataclass
class Heads:
    """What an artifact can be searched by: ctc, parallel: whether it has these; decoder and transducer: None where there is none."""

    vocabulary: Vocabulary
    ctc: bool
    parallel: bool
    decoder: OnnxDecoder | None = None
    transducer: OnnxTransducer | None = None

    @classmethod
    def of(cls, artifact: Artifact) -> Heads:
        """Those of an artifact."""
        graphs = artifact.meta["graphs"]
        return cls(artifact.vocabulary, "ctc" in artifact.meta["heads"], "parallel" in graphs,
                   _open_decoder(artifact) if "decoder" in graphs else None, OnnxTransducer(artifact) if "join" in graphs else None)


def _open_decoder(artifact: Artifact) -> OnnxDecoder:
    tokens, about = artifact.meta["tokens"], artifact.meta.get("prompted")
    sessions = artifact.session("memory"), artifact.session("decoder")
    return OnnxDecoder(*sessions, tokens["bos"], tokens["eos"]) if about is None else PromptedDecoder(*sessions, tokens["eos"], about)


class CtcSearch(Protocol):
    """A search in CTC scores that goes on from part to part: `Greedy`, `PrefixBeam`. A state is of the search that made it."""

    def init(self) -> Any:
        """Before the first frame."""

    def advance(self, state: Any, log_probs: np.ndarray) -> Any:
        """Consume frames log_probs [T, V]."""

    def nbest(self, state: Any, nbest: int = 1, *, final: bool = True) -> list[CtcHypothesis]:
        """The best hypotheses, best first; `final`: the utterance ends here."""


def incremental(vocabulary: Vocabulary, options: SearchOptions) -> CtcSearch:
    """The search in CTC scores that the options name, to be fed part by part. With phrases no token is left out for being unlikely on a
    frame: the boost is there to change that. Greedy search with phrases is a beam of one that knows of nothing else."""
    blank = 0 if vocabulary.blank is None else vocabulary.blank
    greedy = options.method in ("greedy", "ctc_greedy")
    if greedy and options.context is None:
        return Greedy(blank)
    wide: dict[str, Any] = {"min_log_prob": -math.inf, "candidates": _candidates(options)} if options.context is not None else {}
    return PrefixBeam(1 if greedy else options.beam, blank=blank, scorer=options.context if greedy else options.scorer(), **wide)


def _ctc_nbest(heads: Heads, encoded: Encoded, options: SearchOptions, nbest: int = 1) -> list[CtcHypothesis]:
    assert encoded.log_probs is not None  # `check` lets no such search through without the head
    search = incremental(heads.vocabulary, options)
    return search.nbest(search.advance(search.init(), encoded.log_probs), nbest)


def _by_ctc(heads: Heads, encoded: Encoded, options: SearchOptions) -> SearchResult:
    best = _ctc_nbest(heads, encoded, options)[0]
    return SearchResult(best.tokens, best.score, best.frames, best.token_log_probs)


def _by_decoder(heads: Heads, encoded: Encoded, options: SearchOptions) -> SearchResult:
    assert heads.decoder is not None  # else `check` knows no method that comes here
    tokens, said, score = greedy_tokens(heads.decoder, encoded.states, encoded.frames, frozenset(heads.vocabulary.specials))
    return _unless_silent(heads, encoded, SearchResult(tokens, score, [], said))


def _unless_silent(heads: Heads, encoded: Encoded, found: SearchResult) -> SearchResult:
    """Nothing in the place of what a decoder says that hears nobody speak."""
    decoder, mean = heads.decoder, sum(found.token_log_probs) / (len(found.tokens) + 1)
    if decoder is None or decoder.silence is None or not found.tokens or mean >= DOUBTED:
        return found
    return SearchResult([], found.score, [], []) if nobody_speaks(mean, decoder.quiet(encoded.states, encoded.frames)) else found


def _attention(heads: Heads, encoded: Encoded, options: SearchOptions) -> SearchResult:
    vocabulary, heard, joint = heads.vocabulary, encoded.log_probs, options.method == "joint"
    assert heads.decoder is not None
    blank = vocabulary.blank or 0
    expected = expected_tokens(heard, blank) if heard is not None and options.length_limit < math.inf else None
    forbidden = frozenset({*([blank] if heard is not None else []), *vocabulary.specials})
    beam = BeamOptions(options.beam, forbidden, options.ctc_weight, options.length_bonus,
                       options.length_limit, _length_power(options), options.coverage, _candidates(options))
    best = attention_beam(heads.decoder, encoded.states, beam, log_probs=heard if joint else None,
                          scorer=options.scorer(bonus=False), most=options.most, expected=expected, frames=encoded.frames)[0]
    found = SearchResult(best.tokens, best.score, [], best.token_log_probs)
    return found if joint else _unless_silent(heads, encoded, found)


def _rescoring(heads: Heads, encoded: Encoded, options: SearchOptions) -> SearchResult:
    assert heads.decoder is not None
    nbest = _ctc_nbest(heads, encoded, options, options.beam)
    beam = BeamOptions(options.beam, ctc_weight=options.ctc_weight)
    best = rescore(heads.decoder, encoded.states, nbest, beam)[0]
    return SearchResult(best.tokens, best.score, best.frames, best.token_log_probs)


def _candidates(options: SearchOptions) -> int | None:
    """Tokens that a beam looks at in one place: more than usual with phrases, whose tokens the model itself may rank low."""
    return max(_CANDIDATES, 2 * options.beam) if options.context is not None else None


def _length_power(options: SearchOptions) -> float:
    """By which power of its length a hypothesis' score is divided."""
    return (0.5 if options.method == "attention" else 0.0) if options.length_power is None else options.length_power


def _by_transducer(heads: Heads, encoded: Encoded, options: SearchOptions) -> SearchResult:
    """Greedy search with phrases is a beam of one that knows of nothing else."""
    assert heads.transducer is not None
    if options.method in ("greedy", "transducer_greedy"):
        best = transducer.greedy(heads.transducer, encoded.states, options.symbols_per_frame) if options.context is None else (
            transducer.beam_search(heads.transducer, encoded.states, 1, scorer=options.context)[0])
    else:
        power = 1.0 if options.length_power is None else options.length_power
        best = transducer.beam_search(heads.transducer, encoded.states, options.beam, scorer=options.scorer(),
                                      internal_lm_weight=options.internal_lm_weight, length_power=power)[0]
    return SearchResult(best.tokens, best.score, best.frames, best.token_log_probs)


Search = Callable[[Heads, Encoded, SearchOptions], SearchResult]
_BY_CTC: dict[str, Search] = {"greedy": _by_ctc, "prefix_beam": _by_ctc}
_BY_BOTH: dict[str, Search] = {"attention": _attention, "joint": _attention, "rescoring": _rescoring}
_BY_DECODER: dict[str, Search] = {"greedy": _by_decoder, "attention": _attention}
_BY_TRANSDUCER: dict[str, Search] = {"transducer_greedy": _by_transducer, "transducer_beam": _by_transducer}
PEAKED = ("greedy", "ctc_greedy", "prefix_beam", *_BY_TRANSDUCER)  # those that see tokens on frames, with the heads for it


def searches_of(heads: Heads) -> dict[str, Search]:
    """The searches that an artifact with these heads can do, by name, the usual one first: what voxkit.search.method says of a model.
    A parallel decoder's own come before them."""
    if heads.parallel:
        return {"ctc_greedy": _by_ctc, "prefix_beam": _by_ctc} if heads.ctc else {}
    found = dict(_BY_CTC) if heads.ctc else {}
    if heads.transducer is not None and not heads.ctc:
        found["greedy"] = _by_transducer
    if heads.decoder is not None:
        found |= _BY_BOTH if heads.ctc else {name: search for name, search in _BY_DECODER.items() if name not in found}
    return found | (_BY_TRANSDUCER if heads.transducer is not None else {})
