"""How a parallel decoder is searched: the methods of a Recognizer whose model predicts all tokens at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from voxkit.align.cif import spans_from_fires
from voxkit.align.words import words_from_tokens
from voxkit.hypothesis import Hypothesis
from voxkit.infer import ctc, fusion
from voxkit.infer.rescoring import rank
from voxkit.search.parallel import parallel_beam, parallel_greedy

if TYPE_CHECKING:
    from voxkit.infer.recognizer import Recognizer, SearchOptions

# method → whether the decoder says the tokens and CIF their times; else the CTC head does, alone or (rescoring) judged by the decoder
PARALLEL_METHODS = {"greedy": True, "guided": True, "beam": True, "ctc_greedy": False, "prefix_beam": False, "rescoring": False}
NEED_CTC = ("guided", "ctc_greedy", "prefix_beam", "rescoring")
_AT_ONCE = (("lm", "context", "rescore_lm"), "it says all tokens at once, none knows of the others")
PARALLEL_REFUSALS: fusion.Refusals = {
    "greedy": _AT_ONCE,
    "guided": _AT_ONCE,
    "ctc_greedy": (("lm", "rescore_lm"), fusion.ALONE),
}


def timed_by_ctc(model: Any, method: str) -> bool:
    """Whether the words that a method finds get their times from where CTC spikes."""
    return not (hasattr(model, "predict") and PARALLEL_METHODS.get(method, False))


def recognize_parallel(recognizer: Recognizer, states: Tensor, lengths: Tensor, seconds: Tensor,
                       options: SearchOptions) -> list[Hypothesis]:
    """Encoder states [B, T, D] → hypotheses, with token confidences; words where asked for.

    Confidences take the options' temperature, those of tokens as those of words. The options' timing was fitted on where CTC spikes and
    is for the words that come from CTC; where CIF fires is where a token ends, and needs none.

    Args:
        lengths: [B] in frames, seconds: [B] of audio.
        options: of one of PARALLEL_METHODS that this model has (`Recognizer.check`) and that takes what they hold (`Recognizer.refusal`).
    """
    model, vocabulary, method = recognizer.model, recognizer.vocabulary, options.method
    if not PARALLEL_METHODS[method]:
        log_probs = model.ctc_log_probs(states)
        out, through = [], rank(_through_ctc(model, states, lengths, log_probs, options), vocabulary, options)
        for h, s in zip(through, seconds.tolist()):
            said = [(t, p) for t, p in zip(h.tokens, h.token_log_probs) if t not in vocabulary.specials]
            tokens = [t for t, _ in said]
            out.append(Hypothesis(vocabulary.decode(tokens), [], float(h.score), tokens, s, _confidences([p for _, p in said], options)))
        if options.words:
            recognizer.add_words(out, through, log_probs, lengths, options)
        return out
    guess = model.predict(states, lengths, guided=method == "guided")
    if method in ("greedy", "guided"):
        found = parallel_greedy(guess.log_probs, guess.lengths)
    else:
        log_probs = model.ctc_log_probs(states) if model.ctc is not None and options.ctc_weight > 0 else None
        found = rank(parallel_beam(guess.log_probs, guess.lengths, options.beam, nbest=options.nbest, scorer=options.scorer(),
                                   candidates=ctc.candidates(options), ctc_log_probs=log_probs, ctc_lengths=lengths,
                                   ctc_weight=options.ctc_weight), vocabulary, options)
    out = []
    for h, times, weights, s in zip(found, guess.times.tolist(), guess.weights.tolist(), seconds.tolist()):
        words = []
        if options.words:
            spans = spans_from_fires(h.tokens, times[:len(h.tokens)], h.token_log_probs, vocabulary, weights)
            words = words_from_tokens(spans, vocabulary, model.seconds_per_frame, duration=s, temperature=options.temperature)
        out.append(Hypothesis(vocabulary.decode(h.tokens), words, h.score, h.tokens, s, _confidences(h.token_log_probs, options)))
    return out


def _through_ctc(model: Any, states: Tensor, lengths: Tensor, log_probs: Tensor, options: SearchOptions) -> list[list[Any]]:
    if options.method == "rescoring":
        return ctc.rescoring(log_probs, lengths, options, states, model.score)
    return (ctc.greedy if options.method == "ctc_greedy" else ctc.prefix_beam)(log_probs, lengths, options)


def _confidences(log_probs: list[float], options: SearchOptions) -> list[float]:
    return [min(1.0, math.exp(p / options.temperature)) for p in log_probs]
