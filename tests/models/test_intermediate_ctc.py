"""CTC heads half-way up VoxFormer: what they add to the loss, what they tell the layers above, where they may stand."""

import pytest
import torch
import torch.nn.functional as F

from voxkit import config as configuration
from voxkit.batch import Batch, Padded
from voxkit.config import ConfigError
from voxkit.run_config import make_setup

CTC = {"ctc": 1.0, "attention": 0.0, "start_ctc": 1.0, "start_attention": 0.0}


def build(loss: dict | None = None, **model):
    torch.manual_seed(0)
    options = {"model": {"front_end": {"kind": "fbank"}, "encoder": {"preset": "toy"}, "loss": {**CTC, **(loss or {})}, **model}}
    return make_setup(configuration.OmegaConf.create(options)).build_model(7)


def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(["a", "b"], audio=Padded(0.1 * torch.randn(2, 24000), torch.tensor([24000, 15000])), texts=["", ""],
                 tokens=Padded(torch.tensor([[3, 4, 5], [6, 3, 0]]), torch.tensor([3, 2])))


@pytest.mark.parametrize("self_conditioned", [True, False])
def test_the_loss_is_shared_between_the_end_and_the_heads(self_conditioned):
    places = {"intermediate_ctc": {"after": [0, 2], "self_conditioned": self_conditioned}}
    model = build({"intermediate": 0.4}, **places).eval()
    found = model.loss(batch())
    torch.testing.assert_close(found.total, 0.6 * found.parts["ctc"] + 0.4 * found.parts["intermediate"])
    x, lengths = model.front_end(batch())
    by_hand = F.ctc_loss(model.intermediate.heads["0"](x).log_softmax(-1).transpose(0, 1), batch().tokens.values, lengths,
                         batch().tokens.lengths, reduction="sum") / 5
    read = model.hear(batch()).read
    second = F.ctc_loss(read[1].transpose(0, 1), batch().tokens.values, lengths, batch().tokens.lengths, reduction="sum") / 5
    assert len(read) == 2
    torch.testing.assert_close(found.parts["intermediate"], (by_hand + second) / 2)


def test_what_a_head_reads_reaches_the_layers_above_only_if_it_is_told():
    for self_conditioned in (True, False):
        model = build({"intermediate": 0.3}, intermediate_ctc={"after": [1], "self_conditioned": self_conditioned}).eval()
        with torch.no_grad():
            before = model.encode(batch()).states
            model.intermediate.heads["1"].bias[3] += 5.0
            after = model.encode(batch()).states
        assert torch.equal(before, after) != self_conditioned


def test_every_weight_of_the_heads_learns():
    model = build({"intermediate": 0.3}, intermediate_ctc={"after": [0, 1, 3]})
    model.loss(batch()).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.intermediate.parameters())


def test_padding_never_matters():
    model = build({"intermediate": 0.3}, intermediate_ctc={"after": [0, 2]}).eval()
    with torch.no_grad():
        states, lengths = model.encode(batch())[:2]
        alone, alone_lengths = model.encode(batch().take(slice(1, 2)))[:2]
    n = int(alone_lengths[0])
    assert lengths[1] == n
    torch.testing.assert_close(states[1, :n], alone[0, :n], atol=2e-4, rtol=1e-3)


def test_chunk_by_chunk_is_the_masked_whole():
    encoder = {"preset": "toy", "causal": True, "chunk_size": [16], "left_context": [32]}
    model = build({"intermediate": 0.3}, encoder=encoder, intermediate_ctc={"after": [1, 2]}).eval()
    x = torch.randn(2, 70, model.encoder.input_dim)

    def between(place, y):
        return model.intermediate(place, y)[0]

    with torch.no_grad():
        whole, _ = model.encoder(x, torch.tensor([70, 70]), between)
        plain, _ = model.encoder(x, torch.tensor([70, 70]))
        state, parts = model.encoder.init_state(2), []
        for part in x.split(16, dim=1):
            y, state = model.encoder.stream(part, state, between)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole, plain)


@pytest.mark.parametrize("loss, places, message", [
    ({}, {"after": [1]}, "loss.intermediate: above 0 it needs intermediate_ctc.after"),
    ({"intermediate": 0.3}, {}, "loss.intermediate: above 0 it needs intermediate_ctc.after"),
    ({"intermediate": 1.0}, {"after": [1]}, "intermediate: 1.0 is not in"),
    ({"intermediate": 0.3}, {"after": [-1]}, "after: -1 is negative"),
    ({"intermediate": 0.3}, {"after": [1, 1]}, "names a place twice"),
])
def test_what_does_not_fit_is_named(loss, places, message):
    with pytest.raises(ConfigError, match=message):
        build(loss, intermediate_ctc=places)


def test_a_place_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="model.intermediate_ctc.after: 4 is beyond the encoder's last stack or layer, 3"):
        build({"intermediate": 0.3}, intermediate_ctc={"after": [4]})
