"""One decoder, three ways in: they must agree."""

import pytest
import torch

from voxkit.decoders.transformer import TransformerDecoder, TransformerDecoderConfig
from voxkit.search.attention import attention_beam


@pytest.fixture
def decoder() -> TransformerDecoder:
    torch.manual_seed(1)
    return TransformerDecoder(TransformerDecoderConfig(dim=16, heads=2, ffn=32, layers=2), vocab_size=11, memory_dim=12).double().eval()


MEMORY = torch.randn(3, 9, 12, generator=torch.Generator().manual_seed(2)).double()
LENGTHS = torch.tensor([9, 5, 7])


def test_steps_equal_teacher_forcing(decoder):
    tokens = torch.tensor([[1, 4, 5, 6], [1, 7, 8, 9], [1, 3, 3, 10]])
    expected = decoder(tokens, MEMORY, LENGTHS).float().log_softmax(-1)
    state = decoder.init_state(MEMORY, LENGTHS)
    for i in range(tokens.shape[1]):
        log_probs, state = decoder.step(tokens[:, i], state)
        torch.testing.assert_close(log_probs, expected[:, i], atol=1e-5, rtol=0)
    assert state.position == tokens.shape[1]


def test_select_reorders_hypotheses(decoder):
    state = decoder.init_state(MEMORY, LENGTHS)
    _, state = decoder.step(torch.tensor([1, 1, 1]), state)
    index = torch.tensor([2, 0, 0])
    mixed, _ = decoder.step(torch.tensor([4, 5, 6]), state.select(index))
    alone, _ = decoder.step(torch.tensor([5, 4, 4]), state)
    again, _ = decoder.step(torch.tensor([6, 6, 6]), state)
    torch.testing.assert_close(mixed[0], alone[2])
    torch.testing.assert_close(mixed[2], again[0])


def test_score_equals_the_sum_of_steps(decoder):
    tokens = torch.tensor([[[4, 5, 0], [6, 7, 8]]] * 3)
    token_lengths = torch.tensor([[2, 3]] * 3)
    scores = decoder.score(MEMORY, LENGTHS, tokens, token_lengths)
    state, last, total = decoder.init_state(MEMORY, LENGTHS), torch.full((3,), 1), torch.zeros(3)
    for token in (4, 5, 2):
        log_probs, state = decoder.step(last, state)
        total, last = total + log_probs[:, token], torch.full((3,), token)
    torch.testing.assert_close(scores[:, 0].float(), total, atol=1e-5, rtol=1e-5)


def test_padding_of_memory_does_not_matter(decoder):
    tokens = torch.tensor([[1, 4, 5]])
    alone = decoder(tokens, MEMORY[1:2, :5], LENGTHS[1:2])
    spoiled = MEMORY.clone()
    spoiled[1, 5:] = 1e3
    torch.testing.assert_close(decoder(tokens.expand(3, -1), spoiled, LENGTHS)[1:2], alone)


def test_later_tokens_do_not_change_earlier_ones(decoder):
    a, b = torch.tensor([[1, 4, 5, 6]]), torch.tensor([[1, 4, 9, 9]])
    torch.testing.assert_close(decoder(a, MEMORY[:1], LENGTHS[:1])[:, :2], decoder(b, MEMORY[:1], LENGTHS[:1])[:, :2])


def test_teacher_forcing_shifts(decoder):
    inputs, targets, lengths = decoder.teacher_forcing(torch.tensor([[4, 5, 6], [7, 0, 0]]), torch.tensor([3, 1]))
    assert inputs.tolist() == [[1, 4, 5, 6], [1, 7, 0, 0]] and lengths.tolist() == [4, 2]
    assert targets.tolist() == [[4, 5, 6, 2], [7, 2, -100, -100]]


@pytest.mark.parametrize("index", [[0, 0, 1, 1, 2, 2], [2, 0, 0], [1], [1, 1, 0, 2]], ids=["even", "mixed", "one", "uneven"])
def test_hypotheses_share_the_memory_of_their_utterance(decoder, index):
    index = torch.tensor(index)
    _, state = decoder.step(torch.tensor([1, 1, 1]), decoder.init_state(MEMORY, LENGTHS))
    state = state.select(index)
    assert all(k.shape[0] == 3 for k, _ in state.cross), "keys over the encoder states are kept once per utterance"
    tokens = torch.arange(4, 4 + len(index))
    log_probs, state = decoder.step(tokens, state)
    for n, b in enumerate(index.tolist()):
        expected = decoder(torch.tensor([[1, int(tokens[n])]]), MEMORY[b:b + 1], LENGTHS[b:b + 1])[0, -1].float().log_softmax(-1)
        torch.testing.assert_close(log_probs[n], expected, atol=1e-5, rtol=0)


def test_a_watched_state_shows_attention_and_the_beam_uses_it(decoder):
    state = decoder.init_state(MEMORY, LENGTHS)
    state.watch = True
    state = state.select(torch.tensor([0, 0, 1, 1, 2, 2]))
    _, state = decoder.step(torch.tensor([1] * 6), state)
    assert state.attention.shape == (6, 9)
    torch.testing.assert_close(state.attention.sum(1), torch.ones(6).double())
    assert float(state.attention[2, 5:].abs().sum()) == 0.0, "padding gets none"
    expected = decoder.attention_weights(torch.tensor([[1]] * 3), MEMORY, LENGTHS)[:, :, :, 0].mean((0, 2))
    torch.testing.assert_close(state.attention[::2], expected)
    plain = attention_beam(decoder, MEMORY, LENGTHS, 3)
    covered = attention_beam(decoder, MEMORY, LENGTHS, 3, coverage=5.0)
    assert [h[0].score for h in plain] != [h[0].score for h in covered]
