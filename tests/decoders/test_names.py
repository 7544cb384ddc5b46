"""What checkpoints call the decoders' parameters, in which order: written out, so that no change of the code renames them unseen."""

import pytest

from voxkit.decoders.parallel import ParallelDecoder
from voxkit.decoders.transformer import TransformerDecoder, TransformerDecoderConfig

ATTENTION = ["query.weight", "query.bias", "key.weight", "value.weight", "value.bias", "output.weight", "output.bias"]
LAYER = [*(f"{norm}.{kind}" for norm in ("self_norm", "cross_norm", "ffn_norm") for kind in ("weight", "bias")),
         *(f"{which}_attention.{name}" for which in ("self", "cross") for name in ATTENTION),
         "ffn.0.weight", "ffn.0.bias", "ffn.3.weight", "ffn.3.bias"]
REST = ["norm.weight", "norm.bias", "output.weight", "output.bias"]


@pytest.mark.parametrize("kind, first", [(TransformerDecoder, []), (ParallelDecoder, ["input.weight", "input.bias"])])
def test_names_of_parameters(kind, first):
    decoder = kind(TransformerDecoderConfig(dim=16, heads=2, ffn=32, layers=2), 11, 12)
    names = [*first, "embedding.weight", *(f"layers.{i}.{name}" for i in range(2) for name in LAYER), *REST]
    assert list(decoder.state_dict()) == names == [name for name, _ in decoder.named_parameters()]
