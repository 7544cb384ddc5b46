"""Transducer forced alignment against all paths, padding, and what does not fit."""

import itertools

import pytest
import torch

from tests.search.test_transducer import scores_of, sharp
from voxkit.align.transducer import transducer_align


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_best_of_all_paths(seed):
    model = sharp(seed, vocab=5)
    states, lengths = torch.randn(2, 6, 8), torch.tensor([6, 4])
    tokens, sizes = torch.tensor([[1, 3, 3], [4, 2, 0]]), torch.tensor([3, 2])
    for b, found in enumerate(transducer_align(model, states, lengths, tokens, sizes)):
        with torch.no_grad():
            log_probs = scores_of(model, states[b])
        text, paths = tuple(tokens[b, : sizes[b]].tolist()), {}
        for frames in itertools.combinations(range(int(lengths[b])), len(text)):
            said, score = 0, 0.0
            for t in range(int(lengths[b])):
                row = log_probs(t, text[:said])
                score += row[text[said]] if t in frames else row[0]
                said += t in frames
            paths[frames] = score
        best = max(paths, key=paths.get)
        assert tuple(s.start for s in found.spans) == best and tuple(s.token for s in found.spans) == text
        assert all(s.end == s.start + 1 for s in found.spans)
        assert found.score == pytest.approx(paths[best], abs=1e-4)
        emitted = [log_probs(t, text[:u])[k] for u, (t, k) in enumerate(zip(best, text))]
        assert [s.peak for s in found.spans] == pytest.approx(emitted, abs=1e-4)


def test_padding_never_matters():
    model = sharp(0)
    states, lengths = torch.randn(2, 9, 8), torch.tensor([9, 5])
    tokens, sizes = torch.tensor([[1, 3, 3, 2], [4, 2, 6, 6]]), torch.tensor([4, 2])
    alone = transducer_align(model, states[1:, :5], lengths[1:], tokens[1:, :2], sizes[1:])[0]
    together = transducer_align(model, states, lengths, tokens, sizes)[1]
    assert [(s.token, s.start) for s in together.spans] == [(s.token, s.start) for s in alone.spans]
    assert together.score == pytest.approx(alone.score, abs=1e-4)


def test_a_text_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="item 1: 3 tokens in 2 frames"):
        transducer_align(sharp(0), torch.randn(2, 4, 8), torch.tensor([4, 2]), torch.ones(2, 3, dtype=torch.long), torch.tensor([3, 3]))
    nothing = transducer_align(sharp(0), torch.randn(1, 3, 8), torch.tensor([3]), torch.zeros(1, 0, dtype=torch.long), torch.tensor([0]))
    assert nothing[0].spans == [] and nothing[0].score < 0
