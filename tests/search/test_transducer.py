"""Transducer searches against plain loops and brute force; padding, chunks, scorers, frames."""

import itertools

import pytest
import torch

from tests.decoders.test_transducer_head import golden, head  # noqa: F401
from voxkit.search.context_graph import ContextGraph
from voxkit.search.scorer import NeuralScorer, Weighted
from voxkit.search.transducer import TransducerGreedy, transducer_greedy
from voxkit.search.transducer_beam import TransducerBeam, transducer_beam
from voxkit.search.transducer_reference import beam_reference, exhaustive, greedy_reference


def sharp(seed=0, vocab=7, scale=4.0):
    """A head that is sure enough of itself to say something."""
    model = head(seed, vocab)
    with torch.no_grad():
        for linear in (model.joiner.encoder_proj, model.joiner.decoder_proj, model.joiner.output_linear):
            linear.weight.mul_(scale)
    return model


def case(seed=0, vocab=7, frames=12):
    model = sharp(seed, vocab)
    return model, torch.randn(3, frames, 8), torch.tensor([frames, frames - 3, 4])


def scores_of(model, states):
    """[T, D] of one utterance → (frame, all that was said) → [V]."""
    heard = model.hear(states)

    def log_probs(t, said):
        context = torch.cat((model.init_context(1), torch.tensor([said], dtype=torch.long).view(1, -1)), 1)[:, -2:]
        return model.join(heard[t], model.say(context)[0]).tolist()

    return log_probs


@pytest.mark.parametrize("symbols", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_is_the_plain_loop(seed, symbols):
    model, states, lengths = case(seed, frames=30)
    with torch.no_grad():
        found = transducer_greedy(model, states, lengths, symbols)
        for h, x, n in zip(found, states, lengths.tolist()):
            plain = greedy_reference(scores_of(model, x), n, symbols)
            assert tuple(h.tokens) == plain.tokens and tuple(h.frames) == plain.frames
            assert h.score == pytest.approx(plain.score, abs=1e-3)
            assert len(h.token_log_probs) == len(h.tokens) and all(p <= 0 for p in h.token_log_probs)
    assert any(len(h.tokens) > 2 for h in found)


@pytest.mark.parametrize("vocab,frames", [(3, 5), (4, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_is_the_sum_over_all_paths(seed, vocab, frames):
    model = sharp(seed, vocab)
    states = torch.randn(2, frames, 8)
    everything = sum((vocab - 1) ** n for n in range(frames + 1))
    with torch.no_grad():
        found = transducer_beam(model, states, torch.tensor([frames, frames - 1]), everything, nbest=everything, prune=None)
        for row, x, n in zip(found, states, (frames, frames - 1)):
            plain = exhaustive(scores_of(model, x), n, vocab)
            assert {tuple(h.tokens) for h in row} == set(plain)
            assert [h.score for h in row] == sorted((h.score for h in row), reverse=True)
            for h in row:
                assert h.score == pytest.approx(plain[tuple(h.tokens)], abs=1e-4)


@pytest.mark.parametrize("beam", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_the_beam_is_the_plain_loop(seed, beam):
    model, states, lengths = case(seed)
    with torch.no_grad():
        for row, x, n in zip(transducer_beam(model, states, lengths, beam, nbest=beam, prune=None), states, lengths.tolist()):
            plain = beam_reference(scores_of(model, x), n, beam)
            assert [tuple(h.tokens) for h in row] == [p.tokens for p in plain]
            for h, p in zip(row, plain):
                assert h.score == pytest.approx(p.score, abs=1e-3) and h.parts["transducer"] == pytest.approx(p.score, abs=1e-3)
                assert len(h.frames) == len(h.tokens) and h.frames == sorted(set(h.frames))


def test_tokens_are_timed_where_most_of_them_arrives():
    """With two hypotheses alive, the frame of the last token is that of its more likely arrival, as in the plain loop."""
    model, states, lengths = case(2)
    with torch.no_grad():
        for row, x, n in zip(transducer_beam(model, states, lengths, 4), states, lengths.tolist()):
            plain = beam_reference(scores_of(model, x), n, 4)[0]
            assert tuple(row[0].frames) == plain.frames
            log_probs = scores_of(model, x)
            for h in (row[0], transducer_greedy(model, x[None, :n], torch.tensor([n]))[0]):
                there = [torch.tensor(log_probs(t, tuple(h.tokens[:u])))[1:].log_softmax(-1) for u, t in enumerate(h.frames)]
                assert h.token_log_probs == pytest.approx([float(p[k - 1]) for p, k in zip(there, h.tokens)], abs=1e-3)


def searches(model):
    return [TransducerGreedy(model, 1), TransducerGreedy(model, 3), TransducerBeam(model, 4),
            TransducerBeam(model, 4, internal_lm_weight=0.2, scorer=bigram(7))]


@pytest.mark.parametrize("which", range(4))
def test_padding_never_matters(which):
    model, states, lengths = case()
    search = searches(model)[which]
    padded = torch.nn.functional.pad(states, (0, 0, 0, 5), value=7.0)
    padded[2, 4:] = torch.nan  # in padding anything may stand
    together = search.nbest(search.advance(search.init(3), padded, lengths), 3)
    for row, x, n in zip(together, states, lengths.tolist()):
        alone = search.nbest(search.advance(search.init(1), x[None, :n], torch.tensor([n])), 3)[0]
        assert [(h.tokens, h.frames) for h in row] == [(h.tokens, h.frames) for h in alone]
        assert [h.score for h in row] == pytest.approx([h.score for h in alone], abs=1e-4)


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("chunk", [1, 5, 8])
def test_chunks_are_the_whole(which, chunk):
    model, states, _ = case(frames=21)
    search = searches(model)[which]
    whole = search.nbest(search.advance(search.init(3), states, torch.tensor([21, 21, 21])), 2)
    state, texts = search.init(3), []
    for part in states.split(chunk, dim=1):
        before = state
        state = search.advance(state, part, torch.full((3,), part.shape[1]))
        texts.append(search.nbest(state, final=False)[0][0].tokens)
    for row, expected in zip(search.nbest(state, 2), whole):
        assert [(h.tokens, h.frames) for h in row] == [(h.tokens, h.frames) for h in expected]
        assert [h.score for h in row] == pytest.approx([h.score for h in expected], abs=1e-4)
    again = search.advance(before, part, torch.full((3,), part.shape[1]))  # a state is a value: going on from it leaves it as it was
    assert [r[0].tokens for r in search.nbest(again)] == [r[0].tokens for r in search.nbest(state)]
    assert len(texts[-1]) >= len(texts[0])


def bigram(vocab, seed=1):
    """A language model over the last token, as `Scorer`, and what it gives."""
    table = torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    return Weighted(NeuralScorer(lambda tokens, lengths: table[tokens.gather(1, lengths[:, None] - 1)[:, 0]], bos=1, eos=2), 0.5, 0.3)


def fused_by(vocab, tokens, seed=1, end=False):
    table = torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    told = sum(0.5 * float(table[a, b]) + 0.3 for a, b in zip((1, *tokens), tokens))
    return told + (0.5 * float(table[(1, *tokens)[-1], 2]) if end else 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_language_model_counts_as_in_the_plain_loop(seed):
    model, states, lengths = case(seed)
    with torch.no_grad():
        found = transducer_beam(model, states, lengths, 4, nbest=4, scorer=bigram(7), prune=None)
        for row, x, n in zip(found, states, lengths.tolist()):
            plain = beam_reference(scores_of(model, x), n, 4, fused=lambda tokens: fused_by(7, tokens))
            expected = sorted(((p.score - fused_by(7, p.tokens) + fused_by(7, p.tokens, end=True), p.tokens) for p in plain), reverse=True)
            assert [tuple(h.tokens) for h in row] == [tokens for _, tokens in expected]
            for h, (score, tokens) in zip(row, expected):
                assert h.score == pytest.approx(score, abs=1e-3)
                assert h.parts["fused"] == pytest.approx(fused_by(7, tokens, end=True), abs=1e-3)


def test_the_internal_language_model_is_taken_off():
    model, states, lengths = case()
    with torch.no_grad():
        found = transducer_beam(model, states, lengths, 4, nbest=4, internal_lm_weight=0.3, prune=None)

        def internal(tokens):
            before = (-1, 0, *tokens)
            contexts = [model.say(torch.tensor([before[u:u + 2]])) for u in range(len(tokens))]
            return -0.3 * sum(float(model.internal_lm(said)[0, token]) for said, token in zip(contexts, tokens))

        for row, x, n in zip(found, states, lengths.tolist()):
            plain = beam_reference(scores_of(model, x), n, 4, fused=internal)
            assert [tuple(h.tokens) for h in row] == [p.tokens for p in plain]
            assert [h.score for h in row] == pytest.approx([p.score for p in plain], abs=1e-3)


def test_phrases_bring_out_what_was_nearly_said():
    model, states, lengths = case(1)
    plain = transducer_beam(model, states, lengths, 4, nbest=4)
    wanted = next(h.tokens for h in plain[0][1:] if h.tokens != plain[0][0].tokens and len(h.tokens) > 1)
    graph = ContextGraph([wanted], 7, [3.0])
    assert transducer_beam(model, states, lengths, 4, scorer=graph)[0][0].tokens == wanted


def test_length_power_ranks_by_the_mean():
    model, states, lengths = case()
    plain = transducer_beam(model, states, lengths, 6, nbest=6)
    for row, by_mean in zip(plain, transducer_beam(model, states, lengths, 6, nbest=6, length_power=1.0)):
        expected = sorted(((h.score / (len(h.tokens) + 1), h.tokens) for h in row), reverse=True)
        assert [h.tokens for h in by_mean] == [tokens for _, tokens in expected]
        assert [h.score for h in by_mean] == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_nothing_heard_is_nothing_said():
    model = sharp()
    for search in searches(model):
        empty = search.advance(search.init(2), torch.zeros(2, 0, 8), torch.tensor([0, 0]))
        assert [row[0].tokens for row in search.nbest(empty)] == [[], []]
        part = search.advance(empty, torch.randn(2, 6, 8), torch.tensor([0, 6]))
        assert search.nbest(part)[0][0].tokens == []


def test_what_cannot_be_searched_is_named():
    model, states, lengths = case()
    with pytest.raises(ValueError, match="beam is 0"):
        TransducerBeam(model, 0)
    with pytest.raises(ValueError, match="symbols is 0"):
        TransducerGreedy(model, 0)
    states[1, 2] = torch.nan
    for search, which in itertools.product((transducer_greedy, transducer_beam), ("NaN", "lengths")):
        with pytest.raises(ValueError, match="item 1 .* NaN" if which == "NaN" else "lengths reach"):
            search(model, states, lengths if which == "NaN" else lengths + 1)


def test_golden_greedy(golden):  # noqa: F811
    golden, model = golden
    found = transducer_greedy(model, golden["encoder_out"], golden["encoder_lengths"])
    assert [h.tokens for h in found] == golden["greedy"] and [h.frames for h in found] == golden["greedy_frames"]
