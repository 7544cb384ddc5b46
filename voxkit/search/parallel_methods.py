"""The searches by a parallel decoder, which says all tokens at once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from voxkit.search.attention import attention_rescore
from voxkit.search.ctc_methods import candidates, first_pass
from voxkit.search.heads import Guess, Heard, Parallel
from voxkit.search.hypotheses import AttentionHypothesis, ParallelHypothesis
from voxkit.search.options import SearchOptions
from voxkit.search.parallel import parallel_beam, parallel_greedy
from voxkit.text.vocabulary import Vocabulary


def greedy(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[ParallelHypothesis]]:
    """The best token of every place; CIF says how many there are."""
    return _best_tokens(heard, vocabulary, guided=False)


def guided(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[ParallelHypothesis]]:
    """The same, with as many tokens as the CTC head says."""
    return _best_tokens(heard, vocabulary, guided=True)


def beam(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[ParallelHypothesis]]:
    """A beam over the places, with language model and phrases; where there is a CTC head it weighs whole hypotheses."""
    guess = _decoder(heard).predict(heard.states, heard.lengths)
    ctc: Tensor | None = heard.ctc if heard.heads.ctc is not None and options.ctc_weight > 0 else None
    rows = parallel_beam(guess.log_probs, guess.lengths, options.beam, nbest=options.nbest, scorer=options.scorer(),
                         candidates=candidates(options), forbidden=sorted(vocabulary.specials), ctc_log_probs=ctc,
                         ctc_lengths=heard.lengths, ctc_weight=options.ctc_weight, blank=heard.heads.blank)
    return _with_fires(rows, guess)


def rescoring(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[AttentionHypothesis]]:
    """CTC's beam, ranked anew with the decoder's score of its hypotheses."""
    return attention_rescore(first_pass(heard, options), heard.states, heard.lengths, _decoder(heard).score, ctc_weight=options.ctc_weight)


def _best_tokens(heard: Heard, vocabulary: Vocabulary, guided: bool) -> list[list[ParallelHypothesis]]:
    guess = _decoder(heard).predict(heard.states, heard.lengths, guided=guided)
    return _with_fires([[h] for h in parallel_greedy(guess.log_probs, guess.lengths, sorted(vocabulary.specials))], guess)


def _with_fires(rows: Sequence[list[ParallelHypothesis]], guess: Guess) -> list[list[ParallelHypothesis]]:
    for row, times, weights in zip(rows, guess.times.tolist(), guess.weights.tolist()):
        for h in row:
            h.fires, h.frame_weights = times[:len(h.tokens)], weights
    return list(rows)


def _decoder(heard: Heard) -> Parallel:
    assert heard.heads.parallel is not None
    return heard.heads.parallel
