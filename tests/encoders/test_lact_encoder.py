"""The LaCT encoder: streams, padding, carried state, chunk borders, the switch that stops learning."""

from __future__ import annotations

import pytest
import torch

from voxkit.config import ConfigError
from voxkit.encoders.build import build_encoder
from voxkit.encoders.lact import LaCTEncoder, weights_of
from voxkit.nn.chunks import ChunkProcessor, silence_marks, token_marks

SMALL = {"kind": "lact", "dim": 16, "heads": 2, "ffn": 24, "layers": 2, "dropout": 0.0, "left": 12}
FAST = {"heads": 2, "chunk": 16, "rate": 0.3, "gate": 0.5}


def made(fast: dict | None = None, **changes) -> LaCTEncoder:
    torch.manual_seed(3)
    encoder = build_encoder({**SMALL, **changes, "fast": {**FAST, **(fast or {})}}, 10)
    for layer in encoder.layers:
        torch.nn.init.normal_(layer.window.bias)
    return encoder.eval()


def heard(*lengths: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(len(lengths), max(lengths), 10, generator=random), torch.tensor(lengths)


@pytest.mark.parametrize("fast, changes", [({}, {}), ({"muon": True, "norm": "pre"}, {}), ({"momentum": False}, {"right": 5}),
                                           ({"overlap": 5}, {}), ({"order": "update_apply"}, {"fast_layers": 1}),
                                           ({"order": "bidirectional"}, {})])
def test_padding_and_neighbors_never_matter(fast: dict, changes: dict):
    encoder = made(fast, **changes)
    x, lengths = heard(70, 33, 16)
    with torch.no_grad():
        padded = torch.nn.functional.pad(x, (0, 0, 0, 60), value=9.0)
        states, after = encoder.forward_carried(padded, lengths, encoder.initial(3))
        for n, length in enumerate(lengths.tolist()):
            alone, own = encoder.forward_carried(x[n:n + 1, :length], lengths[n:n + 1], encoder.initial(1))
            torch.testing.assert_close(states[n:n + 1, :length], alone, atol=1e-5, rtol=1e-5)
            for a, b in zip(after, own):
                torch.testing.assert_close(a[2 * n:2 * n + 2], b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 7, 63, 64, 65])
@pytest.mark.parametrize("fast", [{}, {"muon": True}, {"momentum": False, "norm": "pre"}])
def test_a_stream_gives_what_the_whole_gives(piece: int, fast: dict):
    encoder = made(fast, fast_layers=1)
    x, lengths = heard(150, 150)
    with torch.no_grad():
        _, learned = encoder.forward_carried(*heard(40, 40, seed=1), encoder.initial(2))
        whole, after = encoder.forward_carried(x, lengths, learned)
        state, pieces = encoder.init_state(2, carried=learned), []
        for begin in range(0, 150, piece):
            out, state = encoder.stream(x[:, begin:begin + piece], state, final=begin + piece >= 150)
            pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)
    for a, b in zip(encoder.carried_of(state), after):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_update_apply_streams_in_steps_of_a_chunk():
    encoder = made({"order": "update_apply"})
    x, lengths = heard(40)
    assert encoder.step == 16
    with torch.no_grad():
        first, state = encoder.stream(x[:, :32], encoder.init_state())
        last, _ = encoder.stream(x[:, 32:], state, final=True)
        torch.testing.assert_close(torch.cat((first, last), 1), encoder(x, lengths)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fast, changes, reason", [({}, {"right": 3}, "right=0"), ({"overlap": 4}, {}, "overlap=0"),
                                                   ({"order": "bidirectional"}, {}, "apply_update")])
def test_what_does_not_stream_says_so(fast: dict, changes: dict, reason: str):
    with pytest.raises(ValueError, match=reason):
        made(fast, **changes).init_state()


def test_what_was_heard_changes_what_is_said_and_only_where_weights_learn():
    encoder = made()
    x, lengths = heard(40)
    with torch.no_grad():
        _, learned = encoder.forward_carried(*heard(60, seed=1), encoder.initial(1))
        fresh, carried = (encoder.forward_carried(x, lengths, c)[0] for c in (encoder.initial(1), learned))
        assert (fresh - carried).norm() > 1e-3 * fresh.norm()
        encoder.set_updates(False)
        _, same = encoder.forward_carried(x, lengths, encoder.initial(1))
    assert all(torch.equal(a, b) for a, b in zip(same, encoder.initial(1)))


def test_the_start_moves_the_weights_by_some_percent_a_chunk():
    """At the start values: rates too small to matter, or so large that a chunk replaces the weights, are the usual mistake."""
    for chunk in (32, 64, 128):
        encoder = made({"chunk": chunk, "rate": 0.2}, dim=128, heads=4)  # heads of 64 that learn
        x, lengths = heard(chunk)
        _, after = encoder.forward_carried(x, lengths, encoder.initial(1))
        assert 0.01 < encoder.change(after).mean() < 0.6, encoder.change(after)


def test_resting_draws_weights_back_towards_the_start():
    encoder = made()
    _, after = encoder.forward_carried(*heard(60), encoder.initial(1))
    rested = encoder.rest(after)
    assert (encoder.change(rested) < encoder.change(after)).all()
    for layer in encoder.fast_layers():
        layer.keep.data.fill_(-20.0)
    assert (encoder.change(encoder.rest(after)) < 1e-3).all()
    for state in weights_of(encoder.rest(after)):
        torch.testing.assert_close(state.w0.norm(dim=2, keepdim=True), state.n0, rtol=1e-3, atol=0)


def test_gradients_reach_every_parameter_through_two_utterances():
    encoder = made({"muon": True}).train()
    _, carried = encoder.forward_carried(*heard(40), encoder.initial(1))
    out, carried = encoder.forward_carried(*heard(40, seed=1), encoder.rest(carried))
    (out.square().sum() + sum(x.sum() for x in carried)).backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, name


def test_checkpointing_changes_nothing():
    encoder = made().train()
    gradients = []
    for on in (False, True):
        encoder.checkpointing = on
        encoder.zero_grad()
        encoder(*heard(40, 30))[0].square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)


def test_chunks_end_at_marks():
    chunks = ChunkProcessor(8, overlap=0, borders="marked", least=3)
    marks = torch.zeros(2, 20, dtype=torch.bool)
    marks[0, [1, 4, 5, 15]] = True
    assert chunks.ends(torch.tensor([20, 10]), marks) == [[5, 13, 16, 20], [8, 10]]
    layout = chunks.layout(torch.tensor([20, 10]), 20, marks)
    x = torch.arange(20.0).expand(2, 20)[..., None]
    torch.testing.assert_close(layout.restore(layout.to_queries(x))[0], x[0])
    torch.testing.assert_close(layout.restore(layout.to_queries(x))[1, :10], x[1, :10])
    first = layout.to_learned(x)[0, :, 0].view(-1, 8)
    assert first[0, :5].tolist() == [0, 1, 2, 3, 4] and layout.valid[0].view(-1, 8).sum(1).tolist() == [5, 8, 3, 4]


def test_marks_everywhere_a_chunk_ends_anyway_change_nothing():
    fixed, marked = made(), made({"borders": "marked", "least": 16})
    x, lengths = heard(60, 37)
    with torch.no_grad():
        out, after = fixed.forward_carried(x, lengths, fixed.initial(2))
        other, other_after = marked.forward_carried(x, lengths, marked.initial(2), marks=torch.ones(2, 60, dtype=torch.bool))
    on = torch.arange(60) < lengths[:, None]
    torch.testing.assert_close(out[on], other[on], atol=1e-5, rtol=1e-5)
    for a, b in zip(after, other_after):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="needs marks"):
        marked(x, lengths)


def test_marks_of_silence_and_tokens():
    audio = torch.randn(1, 1600, generator=torch.Generator().manual_seed(0))
    audio[:, 480:800] = 1e-4
    assert silence_marks(audio, torch.tensor([1600]), 10)[0].nonzero().flatten().tolist() == [3, 4]
    log_probs = torch.full((1, 6, 3), -9.0)
    for frame, token in enumerate([0, 1, 1, 0, 2, 1]):
        log_probs[0, frame, token] = 0.0
    assert token_marks(log_probs)[0].nonzero().flatten().tolist() == [0, 3, 4]
    assert token_marks(log_probs, starts=[False, False, True])[0].nonzero().flatten().tolist() == [3]


def test_a_state_of_another_model_is_refused():
    with pytest.raises(ValueError, match="18 tensors, and this encoder's has 9"):
        made(fast_layers=1).forward_carried(*heard(20), made().initial(1))


def test_options_are_checked():
    with pytest.raises(ConfigError, match="fast.heads: 3 does not divide dim 16"):
        made({"heads": 3})
    with pytest.raises(ConfigError, match="order"):
        made({"order": "both"})
    with pytest.raises(ConfigError, match="kind transformer has no left"):
        build_encoder({"kind": "transformer", "left": 3}, 10)
