"""The transducer's searches without torch give what those with it give."""

import numpy as np
import pytest
import torch

from tests.runtime.test_searches import PHRASES, PIECES, TEXTS, VOCAB
from voxkit.decoders.transducer import Transducer, TransducerConfig
from voxkit.runtime.scorers import Bonus, Ngram, Phrases, combine
from voxkit.runtime.transducer import OnnxTransducer, beam_search, greedy
from voxkit.search.context_graph import ContextGraph
from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.ngram_table import NgramTable
from voxkit.search.phrase_table import PhraseTable
from voxkit.search.scorer import combine as torch_combine
from voxkit.search.transducer import transducer_greedy
from voxkit.search.transducer_beam import transducer_beam

DIM = 10


class Twin(OnnxTransducer):
    """The same head, asked by the runtime: what its three graphs would say."""

    def __init__(self, head):
        self.head, self.blank, self.start = head, head.blank, head.init_context(1)[0].tolist()

    def hear(self, states):
        return self.head.hear(torch.from_numpy(states)).numpy()

    def say(self, contexts):
        return self.head.say(torch.tensor(contexts)).numpy()

    def join(self, heard, said):
        return self.head.join(torch.from_numpy(heard), torch.from_numpy(said)).numpy()

    def internal_lm(self, said):
        self._hear = type("Session", (), {"get_inputs": lambda self: [type("Port", (), {"shape": [None, DIM]})]})()
        return super().internal_lm(said)


@pytest.fixture(params=range(5))
def pair(request):
    """(head of torch, the runtime's twin, states [T, D]) that says something."""
    torch.manual_seed(request.param)
    start = "blank" if request.param % 2 else "nothing"
    head = Transducer(TransducerConfig(decoder_dim=8, joiner_dim=16, group_size=2, start=start), VOCAB, DIM).eval()
    with torch.no_grad():
        for weight in (head.joiner.encoder_proj.weight, head.joiner.decoder_proj.weight):
            weight.mul_(8)
        torch.nn.init.normal_(head.joiner.output_linear.weight, std=0.8)
        head.joiner.output_linear.bias[0] += 2
    with torch.inference_mode():
        yield head, Twin(head), torch.randn(40, DIM)


def same(found, expected):
    assert found.tokens == expected.tokens and found.frames == expected.frames
    assert found.score == pytest.approx(expected.score, rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(found.token_log_probs, expected.token_log_probs, rtol=1e-3, atol=1e-4)
    assert found.parts == {name: pytest.approx(value, rel=1e-4, abs=1e-4) for name, value in expected.parts.items()}


@pytest.mark.parametrize("symbols", [1, 3])
def test_greedy(pair, symbols):
    head, twin, states = pair
    expected = transducer_greedy(head, states[None], torch.tensor([len(states)]), symbols)[0]
    same(greedy(twin, states.numpy(), symbols), expected)
    assert len(expected.tokens) > 2
    assert greedy(twin, states.numpy()[:0]).tokens == []


@pytest.mark.parametrize("beam, power, internal", [(1, 0.0, 0.0), (4, 1.0, 0.0), (4, 0.0, 0.3), (12, 0.5, 0.0)])
def test_beam(pair, beam, power, internal):
    head, twin, states = pair
    options = {"length_power": power, "internal_lm_weight": internal, "nbest": beam}
    expected = transducer_beam(head, states[None], torch.tensor([len(states)]), beam, **options)[0]
    found = beam_search(twin, states.numpy(), beam, **options)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        same(one, other)


@pytest.mark.parametrize("with_lm", [False, True])
def test_beam_with_scorers(pair, with_lm):
    head, twin, states = pair
    model, about = train(TEXTS, 2, vocabulary=PIECES[4:]), (PHRASES, VOCAB, [1.5, 3.0, 0.7], [i % 2 == 0 for i in range(VOCAB)])
    ours = combine([Ngram(NgramTable(model, PIECES), 0.4) if with_lm else None, Bonus(0.2), Phrases(PhraseTable(*about))])
    theirs = torch_combine(NgramScorer(model, PIECES) if with_lm else None, 0.4, context=ContextGraph(*about), bonus=0.2)
    expected = transducer_beam(head, states[None], torch.tensor([len(states)]), 5, scorer=theirs, nbest=3)[0]
    for one, other in zip(beam_search(twin, states.numpy(), 5, scorer=ours, nbest=3), expected, strict=True):
        same(one, other)
