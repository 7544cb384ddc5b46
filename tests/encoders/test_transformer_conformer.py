"""Transformer and Conformer encoders: padding, gradients, checkpointing, errors."""

import pytest
import torch

from voxkit.config import ConfigError
from voxkit.encoders.build import build_encoder

KINDS = [{"kind": kind, "positions": positions} for kind in ("transformer", "conformer")
         for positions in ("sinusoidal", "learned", "relative")]


def _build(options):
    torch.manual_seed(0)
    return build_encoder({"dim": 16, "heads": 2, "ffn": 24, "layers": 2, **options}, 10)


@pytest.mark.parametrize("options", KINDS, ids=lambda o: "-".join(o.values()))
def test_padding_does_not_matter(options):
    encoder, x, lengths = _build(options).eval(), torch.randn(2, 23, 10), torch.tensor([23, 14])
    states, out_lengths = encoder(x, lengths)
    assert states.shape == (2, 23, 16) and out_lengths.tolist() == [23, 14] and encoder.downsampling == 1
    x[1, 14:] = 1e3
    torch.testing.assert_close(encoder(x, lengths)[0][1, :14], states[1, :14])
    torch.testing.assert_close(encoder(x[1:, :14], lengths[1:])[0][0], states[1, :14], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", KINDS[::2], ids=lambda o: "-".join(o.values()))
def test_order_matters(options):
    encoder, x = _build(options).eval(), torch.randn(1, 12, 10)
    flipped = encoder(x.flip(1), torch.tensor([12]))[0].flip(1)
    assert (flipped - encoder(x, torch.tensor([12]))[0]).abs().max() > 1e-2


def test_attention_weights_sum_to_one():
    encoder = _build({"kind": "conformer"}).eval()
    weights = encoder.attention_weights(torch.randn(2, 9, 10), torch.tensor([9, 5]))
    assert weights.shape == (2, 2, 2, 9, 9) and not weights[:, 1, :, :, 5:].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 2, 9))


def test_checkpointing_changes_no_gradient():
    encoder, x = _build({"kind": "conformer", "dropout": 0.0}).train(), torch.randn(2, 40, 10)
    gradients = []
    for encoder.checkpointing in (False, True):
        encoder.zero_grad()
        encoder(x, torch.tensor([40, 31]))[0].square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)


def test_lengths_are_checked_but_not_while_a_graph_is_traced():
    """Also of other lengths and batches than were traced."""
    encoder, batch = _build({"kind": "transformer"}).eval(), torch.export.Dim("B", min=1, max=64)
    x, lengths = torch.randn(3, 31, 10), torch.tensor([31, 7, 20])
    program = torch.export.export(encoder, (x[:2], torch.tensor([31, 14])), strict=False,
                                  dynamic_shapes={"x": {0: batch}, "lengths": {0: batch}})
    torch.testing.assert_close(program.module()(x, lengths)[0], encoder(x, lengths)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="lengths reach from 7 to 31, but there are 30 frames"):
        encoder(x[:, :30], lengths)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="'rnn' is none of transformer, conformer, lact, none, zipformer"):
        build_encoder({"kind": "rnn"}, 10)
    with pytest.raises(ConfigError, match="did you mean 'heads'"):
        build_encoder({"kind": "conformer", "head": 3}, 10)
    with pytest.raises(ConfigError, match="heads: 3 does not divide dim 16"):
        build_encoder({"kind": "conformer", "dim": 16, "heads": 3, "kernel": 4}, 10)
    assert build_encoder({"kind": "zipformer", "preset": "toy"}, 10).output_dim == 128


@pytest.mark.parametrize("kind, given, foreign", [("transformer", {"dim": 16, "heads": 2, "kernel": 5}, ["kernel"]),
                                                  ("zipformer", {"preset": "toy", "dim": 16, "ffn": 8}, ["dim", "ffn"]),
                                                  ("conformer", {"dim": 16, "heads": 2, "preset": "toy"}, ["preset"])])
def test_what_a_base_set_for_another_kind_is_named_with_the_way_out(kind, given, foreign):
    with pytest.raises(ConfigError) as error:
        build_encoder({"kind": kind, **given}, 10)
    assert f"kind {kind} has no {', '.join(foreign)}" in str(error.value)
    assert str(error.value).endswith(" ".join(f"model.encoder.{name}=null" for name in foreign))
    assert build_encoder({"kind": kind, **given, **dict.fromkeys(foreign)}, 10)
