"""LaCT ASR: state through the sessions of a batch, explicit state between calls, streams, the baseline of the same size."""

from __future__ import annotations

import pytest
import torch

from voxkit.audio.specaugment import SpecAugmentConfig
from voxkit.batch import Batch, Padded, turns
from voxkit.decoders.transformer import TransformerDecoderConfig
from voxkit.encoders.front_end import FrontEndConfig
from voxkit.models.lact_asr import (
    BaselineASRTransformer,
    CarryConfig,
    LaCTASR,
    LaCTASRConfig,
    LaCTASRDecoder,
    LaCTASREncoder,
    LaCTLossConfig,
    take_carried,
)


def made(front_end: str = "fbank", **changes) -> LaCTASR:
    torch.manual_seed(0)
    fast = {"heads": 2, "chunk": 16, "rate": 0.2, "gate": 0.5, **changes.pop("fast", {})}
    config = LaCTASRConfig(
        vocab_size=12, front_end=FrontEndConfig(kind=front_end, subsampling_dim=24, fbank_bins=80, stack=3, stride=2,
                                                spec_augment=SpecAugmentConfig(prob=0.0)),
        encoder={"kind": "lact", "dim": 16, "heads": 2, "ffn": 24, "layers": 2, "dropout": 0.0, "left": 12, "fast": fast},
        decoder=TransformerDecoderConfig(dim=16, heads=2, ffn=24, layers=1, dropout=0.0), dropout=0.0,
        carry=CarryConfig(reset=0.0), **changes)
    return LaCTASR(config)


def spoken(sessions: list[str], seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    audio = [0.1 * torch.randn(int(torch.randint(6000, 20000, (1,), generator=random)), generator=random) for _ in sessions]
    tokens = [torch.randint(3, 12, (3 + n % 2,), generator=random) for n in range(len(sessions))]
    return Batch([f"u{n}" for n in range(len(sessions))], audio=Padded.of(audio), tokens=Padded.of(tokens), sessions=sessions)


def only(batch: Batch, row: int) -> Batch:
    return batch.take(slice(row, row + 1))


SESSIONS = ["a", "b", "a", "a", "c", "b"]


def test_turns_go_through_sessions_in_their_order():
    assert turns(SESSIONS) == [[0, 1, 4], [2, 5], [3]]
    assert turns([]) == []


@pytest.mark.parametrize("front_end", ["fbank", "stacked"])
def test_the_loss_carries_as_calls_of_encode_do(front_end: str):
    """A batch of sessions gives for each utterance what it gives alone, with the state that its session had by then."""
    model, batch = made(front_end).eval(), spoken(SESSIONS)
    with torch.no_grad():
        heard = model.hear(batch)
        carried: dict[str, tuple[torch.Tensor, ...]] = {}
        for row, session in enumerate(SESSIONS):
            alone = model.encode(only(batch, row), carried.get(session))
            carried[session] = alone.carried
            length = int(alone.lengths[0])
            assert length == int(heard.lengths[row])
            torch.testing.assert_close(heard.states[row, :length], alone.states[0, :length], atol=1e-5, rtol=1e-5)
        reset = model.encode(only(batch, 3))
    assert (reset.states[0] - heard.states[3, :reset.states.shape[1]]).norm() > 1e-3 * reset.states.norm()


def test_states_of_some_rows_are_those_rows_own():
    model, batch = made().eval(), spoken(["a", "b", "c"])
    with torch.no_grad():
        carried = model.encode(batch).carried
        for row in range(3):
            alone = model.encode(only(batch, row)).carried
            for a, b in zip(take_carried(carried, torch.tensor([row]), 3), alone):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_without_sessions_or_carrying_every_utterance_begins_anew():
    batch = spoken(SESSIONS)
    model = made().eval()
    with torch.no_grad():
        alone = model.encode(batch).states
        model.config.carry.enabled = False
        torch.testing.assert_close(model.hear(batch).states, alone)
        model.config.carry.enabled, batch.sessions = True, None
        torch.testing.assert_close(model.hear(batch).states, alone)


def test_all_resets_are_no_carrying():
    model, batch = made("stacked"), spoken(["a", "a", "a"])
    model.config.carry.reset = 1.0
    with torch.no_grad():
        heard, alone = model.hear(batch), model.encode(batch)
    on = torch.arange(alone.states.shape[1]) < alone.lengths[:, None]
    torch.testing.assert_close(heard.states[on], alone.states[on], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gradient, reaches", [(1, False), (2, True)])
def test_gradients_flow_back_through_so_many_utterances(gradient: int, reaches: bool):
    model, batch = made("stacked"), spoken(["a", "a"])
    model.config.carry.gradient = gradient
    seen: list[torch.Tensor] = []
    model.front_end.register_forward_hook(lambda module, given, out: seen.append(out[0]))
    heard = model.hear(batch)
    grad = torch.autograd.grad(heard.states[1].square().sum(), seen[0])[0]
    assert (grad[0].abs().max() > 0) == reaches and grad[1].abs().max() > 0


def test_losses_train_every_parameter():
    model, batch = made(), spoken(SESSIONS)
    losses = model.loss(batch)
    assert set(losses.parts) == {"ctc", "attention"} and losses.weight == batch.tokens.lengths.sum()
    losses.total.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name


@pytest.mark.parametrize("piece", [160, 1000, 7001])
@pytest.mark.parametrize("order", ["apply_update", "update_apply"])
def test_a_stream_is_the_whole(piece: int, order: str):
    model, batch = made(fast={"order": order}).eval(), only(spoken(["a"]), 0)
    audio = batch.audio.values
    with torch.no_grad():
        learned = model.encode(spoken(["a"], seed=1)).carried
        whole = model.encode(batch, learned)
        state, pieces = model.init_state(carried=learned), []
        for begin in range(0, audio.shape[1], piece):
            out, state = model.stream(audio[:, begin:begin + piece], state, final=begin + piece >= audio.shape[1])
            pieces.append(out)
    torch.testing.assert_close(torch.cat(pieces, 1), whole.states, atol=1e-4, rtol=1e-4)
    for a, b in zip(model.carried_of(state), whole.carried):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_chunks_may_end_in_silence():
    model, batch = made(fast={"borders": "marked", "least": 4}).eval(), spoken(["a", "b"])
    with torch.no_grad():
        both = model.encode(batch)
        alone = model.encode(only(batch, 1))
        length = int(alone.lengths[0])
        torch.testing.assert_close(both.states[1, :length], alone.states[0, :length], atol=1e-5, rtol=1e-5)


def test_the_baseline_has_as_many_parameters():
    config = made().config
    config.encoder = {**config.encoder, "dim": 64, "ffn": 96, "layers": 3}
    ours, baseline = LaCTASR(config), BaselineASRTransformer(config)
    sizes = [sum(p.numel() for p in model.encoder.parameters()) for model in (ours, baseline)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.01 and not baseline.carries and ours.carries
    assert isinstance(ours.encoder, LaCTASREncoder) and isinstance(ours.decoder, LaCTASRDecoder)
    batch = spoken(["a", "a"])
    assert baseline.encode(batch).carried is None and baseline.loss(batch).total.isfinite()


def test_options_are_checked():
    assert CarryConfig(reset=1.5, gradient=0).problems() == ["reset: 1.5 is not in [0, 1]", "gradient: 0 is below 1"]
    assert "searches begin with the CTC head" in LaCTLossConfig(ctc=0.0).problems()[0]
    assert "only fbank streams" in made("stacked").not_streaming()
