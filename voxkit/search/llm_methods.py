"""The search by a language model that reads audio: it says a text, reads it once more, and is stopped where it says what nobody said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from voxkit.search.ctc_length import expected_tokens
from voxkit.search.generation import generate as say
from voxkit.search.greedy import ctc_greedy
from voxkit.search.hallucination import share_heard
from voxkit.search.heads import Heard, Speaker
from voxkit.search.options import SearchOptions
from voxkit.text.vocabulary import Vocabulary


@dataclass
class LLMHypothesis:
    """What a language model says of an utterance.

    Attributes:
        tokens: ids without the end.
        score: log-probability of the tokens and the end.
        token_log_probs: of each token, exact; of a text of CTC's, that stands in place of a hallucination, CTC's.
        entropies: of what could have stood in place of each token, nats.
        stopped: why the language model was not believed (voxkit.search.hallucination.REASONS); empty: it was.
        placed: [W + 1, T] log-probabilities that a frame belongs to no word, to each word; None where that was not learned.
    """

    tokens: list[int]
    score: float
    token_log_probs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    stopped: str = ""
    placed: Tensor | None = None


def generate(heard: Heard, options: SearchOptions, vocabulary: Vocabulary) -> list[list[LLMHypothesis]]:
    """The likeliest token at every step. A text that is stopped gives way to what CTC says, or to nothing where nobody speaks."""
    speaker, rule, size = heard.heads.llm, options.stop, len(heard.lengths)
    assert speaker is not None
    if options.prompt is not None:
        speaker = speaker.prompted(options.prompt, size)
    expected = expected_tokens(heard.ctc, heard.lengths, heard.heads.blank)
    if rule is None:
        limit = speaker.limit(heard.lengths)
    else:
        limit = torch.tensor([rule.most_tokens(x) for x in expected.tolist()], device=heard.lengths.device)
    said = say(speaker, heard.states, heard.lengths, limit, forbidden=vocabulary.specials, rule=rule, expected=expected,
               told=options.told)
    if options.words or rule is not None:
        out = read_again(speaker, heard.states, heard.lengths, [one.tokens for one in said], vocabulary)
    else:
        out = [LLMHypothesis(one.tokens, one.score, one.token_log_probs) for one in said]
    if rule is not None:
        spoken = ctc_greedy(heard.ctc, heard.lengths, heard.heads.blank)
        for one, how, heard_tokens, by_ctc in zip(out, said, expected.tolist(), spoken):
            entropy = sum(one.entropies) / len(one.entropies) if one.entropies else None
            covered = None if one.placed is None else share_heard(one.placed[1:].amax(1).exp().tolist())
            one.stopped = rule.judge(how.ended, heard_tokens, entropy, covered)
            if one.stopped:
                kept = [] if one.stopped == "silence" else by_ctc.tokens
                one.tokens, one.entropies, one.placed = list(kept), [], None
                one.score, one.token_log_probs = (by_ctc.score, list(by_ctc.token_log_probs)) if kept else (0.0, [])
    return [[one] for one in out]


def read_again(speaker: Speaker, states: Tensor, lengths: Tensor, texts: Sequence[Sequence[int]],
               vocabulary: Vocabulary) -> list[LLMHypothesis]:
    """Exact probabilities, entropies and places of the words of known texts, in one pass.

    Args:
        states: [B, T, D], lengths [B]; texts: the tokens of each utterance.
    """
    tokens = torch.zeros(len(texts), max(1, *map(len, texts)), dtype=torch.long)
    words = torch.full_like(tokens, -1)
    for row, belongs, text in zip(tokens, words, texts):
        row[:len(text)] = torch.tensor(text, dtype=torch.long)
        for n, (_, places) in enumerate(vocabulary.words(text)):
            belongs[places.start:places.stop] = n
    device = states.device
    examined = speaker.examine(states, lengths, tokens.to(device), torch.tensor([len(text) for text in texts], device=device))
    placed = speaker.align(examined.states, words.to(device), states, lengths)
    out = []
    for n, text in enumerate(texts):
        size, count = len(text), int(words[n].max()) + 1
        out.append(LLMHypothesis(list(text), float(examined.log_probs[n].sum()), examined.log_probs[n, :size].tolist(),
                                 examined.entropies[n, :size].tolist()))
        if placed is not None and size:
            out[-1].placed = placed[n, :count + 1, :int(lengths[n])].cpu()
    return out
