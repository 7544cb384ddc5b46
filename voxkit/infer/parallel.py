"""How a parallel decoder is searched: the methods of a Recognizer whose model predicts all tokens at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from voxkit.align.cif import spans_from_fires
from voxkit.align.words import words_from_tokens
from voxkit.hypothesis import Hypothesis
from voxkit.search.attention import attention_rescore
from voxkit.search.parallel import parallel_beam, parallel_greedy
from voxkit.search.prefix_beam import ctc_prefix_beam
from voxkit.text.tokenizer import EOS

if TYPE_CHECKING:
    from voxkit.infer.recognizer import Recognizer, SearchOptions

# method: (whether it gives CIF's times, what it is)
PARALLEL_METHODS = {
    "greedy": (True, "the best token of every place"),
    "beam": (True, "a beam over the places, with language model, phrases and CTC"),
    "prefix_beam": (False, "the CTC head alone"),
    "rescoring": (False, "n-best of the CTC head, rescored by the decoder"),
}


def recognize_parallel(recognizer: Recognizer, states: Tensor, lengths: Tensor, seconds: Tensor,
                       options: SearchOptions) -> list[Hypothesis]:
    """Encoder states [B, T, D] → hypotheses, with token confidences; words where asked for.

    Word confidences take the options' temperature. Their timing, which was fitted on where CTC spikes, is for the words that come from
    CTC; where CIF fires is where a token ends, and needs none.

    Raises:
        ValueError: an unknown method, a method that needs the CTC head, or greedy with a language model.
    """
    model, method = recognizer.model, options.method
    if method not in PARALLEL_METHODS:
        raise ValueError(f"method {method!r} is none of {', '.join(PARALLEL_METHODS)}, the searches of a parallel decoder")
    if method == "greedy" and (options.lm is not None or options.context is not None):
        raise ValueError("greedy search takes neither a language model nor phrases; use beam, prefix_beam or rescoring")
    tokenizer, by_cif = recognizer.tokenizer, PARALLEL_METHODS[method][0]
    if not by_cif:
        out = []
        for h, s in zip(_through_ctc(model, states, lengths, options), seconds.tolist()):
            said = [(t, p) for t, p in zip(h.tokens, h.token_log_probs) if t > EOS]
            tokens = [t for t, _ in said]
            out.append(Hypothesis(tokenizer.decode(tokens), [], float(h.score), tokens, s, _confidences([p for _, p in said])))
        if options.words:
            recognizer.add_words(out, model.ctc_log_probs(states), lengths, options)
        return out
    guess = model.predict(states, lengths)
    if method == "greedy":
        found = parallel_greedy(guess.log_probs, guess.lengths)
    else:
        ctc = model.ctc_log_probs(states) if model.ctc is not None and options.ctc_weight > 0 else None
        found = [nbest[0] for nbest in parallel_beam(guess.log_probs, guess.lengths, options.beam, scorer=options.scorer(),
                                                     ctc_log_probs=ctc, ctc_lengths=lengths, ctc_weight=options.ctc_weight)]
    out = []
    for h, times, s in zip(found, guess.times.tolist(), seconds.tolist()):
        words = []
        if options.words:
            spans = spans_from_fires(h.tokens, times[:len(h.tokens)], h.token_log_probs, tokenizer.pieces)
            words = words_from_tokens(spans, tokenizer.pieces, model.seconds_per_frame, duration=s, temperature=options.temperature)
        out.append(Hypothesis(tokenizer.decode(h.tokens), words, h.score, h.tokens, s, _confidences(h.token_log_probs)))
    return out


def _through_ctc(model: Any, states: Tensor, lengths: Tensor, options: SearchOptions) -> list[Any]:
    log_probs = model.ctc_log_probs(states)
    rescored = options.method == "rescoring"
    nbest = ctc_prefix_beam(log_probs, lengths, options.beam, nbest=options.beam if rescored else 1, scorer=options.scorer())
    if rescored:
        nbest = attention_rescore(nbest, states, lengths, model.score, ctc_weight=options.ctc_weight)
    return [row[0] for row in nbest]


def _confidences(log_probs: list[float]) -> list[float]:
    return [min(1.0, math.exp(p)) for p in log_probs]
