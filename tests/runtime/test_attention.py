"""Alignment, CTC prefix scores and attention beam search without torch against those with it."""

import numpy as np
import pytest
import torch

from voxkit.align.ctc import forced_align as torch_align
from voxkit.decoders.transformer import TransformerDecoder, TransformerDecoderConfig
from voxkit.runtime.align import forced_align
from voxkit.runtime.attention import BeamOptions, attention_beam, expected_tokens, rescore
from voxkit.runtime.decoder import OnnxDecoder
from voxkit.runtime.scorers import Ngram
from voxkit.runtime.session import open_session
from voxkit.search import attention as theirs
from voxkit.search.ctc_length import expected_tokens as torch_expected
from voxkit.search.ngram import train
from voxkit.search.ngram_scorer import NgramScorer
from voxkit.search.ngram_table import NgramTable
from voxkit.search.prefix_beam import ctc_prefix_beam

pytest.importorskip("onnxscript", reason="pip install 'voxkit[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'voxkit[export]'")
VOCAB = 14
PIECES = ["<blk>", "<s>", "</s>", "<unk>", *"abcdefghij"]


@pytest.mark.parametrize("seed", range(10))
def test_alignment(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = (2 * torch.randn(25, 6, generator=generator)).log_softmax(-1)
    tokens = torch.randint(1, 6, (int(torch.randint(1, 12, (1,), generator=generator)),), generator=generator).tolist()
    (expected,) = torch_align(scores[None], torch.tensor([25]), torch.tensor([tokens]), torch.tensor([len(tokens)]), strict=False)
    found = forced_align(scores.numpy(), tokens)
    assert [(s.token, s.start, s.end) for s in found] == [(s.token, s.start, s.end) for s in expected.spans]
    np.testing.assert_allclose([(s.log_prob, s.peak) for s in found], [(s.log_prob, s.peak) for s in expected.spans], rtol=1e-5)


def test_a_long_alignment():
    """More states than fit into the bytes that moves are kept in."""
    generator = torch.Generator().manual_seed(3)
    scores = (2 * torch.randn(400, 30, generator=generator)).log_softmax(-1)
    tokens = torch.randint(1, 30, (150,), generator=generator).tolist()
    (expected,) = torch_align(scores[None], torch.tensor([400]), torch.tensor([tokens]), torch.tensor([150]))
    assert [(s.start, s.end) for s in forced_align(scores.numpy(), tokens)] == [(s.start, s.end) for s in expected.spans]


def test_what_cannot_be_aligned():
    scores = np.log(np.full((3, 4), 0.25, np.float32))
    assert forced_align(scores, [1, 1, 2]) is None and forced_align(scores, [1, 2, 3]) is not None and forced_align(scores, []) == []


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """A torch decoder with some preferences, and the same as graphs."""
    from voxkit.export.decoder import decoder_graphs
    from voxkit.export.trace import trace

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("decoder")
    decoder = TransformerDecoder(TransformerDecoderConfig(dim=16, heads=2, ffn=32, layers=2), VOCAB, 8).eval()
    with torch.no_grad():
        decoder.output.weight.mul_(6)
        decoder.output.bias[2] += 2
    for graph in decoder_graphs(decoder):
        trace(graph, folder / f"{graph.name}.onnx")
    return decoder, OnnxDecoder(*(open_session(folder / f"{name}.onnx", threads=1) for name in ("memory", "decoder")))


def utterance(seed, frames=18):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, frames, 8, generator=generator), (3 * torch.randn(1, frames, VOCAB, generator=generator)).log_softmax(-1)


def test_hypotheses_are_scored_alike(decoders):
    decoder, ours = decoders
    memory, _ = utterance(0)
    lists = [[4, 5, 6], [], [9, 9, 9, 9, 9]]
    padded = torch.tensor([[row + [0] * (5 - len(row)) for row in lists]])
    with torch.no_grad():
        expected = decoder.score(memory, torch.tensor([18]), padded, torch.tensor([[3, 0, 5]]))
    np.testing.assert_allclose(ours.score(memory.numpy(), np.array([18]), [lists]), expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [
    {"beam": 1}, {"beam": 5}, {"beam": 4, "ctc": True}, {"beam": 4, "ctc": True, "lm": True}, {"beam": 6, "coverage": 0.2},
    {"beam": 5, "lm": True, "length_power": 0.5, "token_bonus": 0.5, "expected": True}, {"beam": 3, "ctc": True, "expected": True}])
def test_beam(decoders, seed, options):
    decoder, ours = decoders
    memory, log_probs = utterance(seed)
    own = {k: v for k, v in options.items() if k not in ("ctc", "lm", "expected")}
    model = train([list("abcab"), list("jihga"), list("abj")], 3, vocabulary=PIECES[4:]) if "lm" in options else None
    lengths = torch.tensor([18])
    expected = torch_expected(log_probs, lengths) if "expected" in options else None
    reference = theirs.attention_beam(decoder, memory, lengths, ctc_log_probs=log_probs if "ctc" in options else None, ctc_weight=0.3,
                                      scorer=NgramScorer(model, PIECES) if model else None, expected=expected, nbest=2, **own)[0]
    found = attention_beam(ours, memory[0].numpy(), BeamOptions(forbidden=frozenset([0]), **own),
                           log_probs=log_probs[0].numpy() if "ctc" in options else None,
                           scorer=Ngram(NgramTable(model, PIECES)) if model else None, nbest=2,
                           expected=None if expected is None else expected_tokens(log_probs[0].numpy()))
    assert [h.tokens for h in found] == [h.tokens for h in reference]
    for one, other in zip(found, reference):
        assert one.score == pytest.approx(other.score, rel=1e-4, abs=1e-3)
        assert one.parts == pytest.approx(other.parts, rel=1e-3, abs=1e-3)
        np.testing.assert_allclose(one.token_log_probs, other.token_log_probs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_rescoring(decoders, seed):
    decoder, ours = decoders
    memory, log_probs = utterance(seed)
    lengths = torch.tensor([18])
    lists = ctc_prefix_beam(log_probs, lengths, 5, nbest=5)
    with torch.no_grad():
        (expected,) = theirs.attention_rescore(lists, memory, lengths, decoder.score, ctc_weight=0.4)
    found = rescore(ours, memory[0].numpy(), lists[0], BeamOptions(ctc_weight=0.4))
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], rel=1e-4)


def test_nothing_to_hear(decoders):
    assert attention_beam(decoders[1], np.zeros((0, 8), np.float32), BeamOptions())[0].tokens == []
