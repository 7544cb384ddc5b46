"""Shapes that do not go together are named."""

import pytest
import torch

from voxkit.decoders.parallel import ParallelDecoder
from voxkit.decoders.transformer import TransformerDecoderConfig
from voxkit.encoders.conformer import ConformerConfig, ConformerEncoder
from voxkit.encoders.transformer import TransformerConfig, TransformerEncoder
from voxkit.nn.attention import MultiHeadAttention
from voxkit.ops.checks import check_shapes
from voxkit.ops.cif import cif
from voxkit.predictors import CifPredictor

LENGTHS = torch.tensor([7, 5])


def test_what_goes_together_passes():
    check_shapes({"frames": (torch.zeros(2, 7, 4), "BTD"), "weights": (torch.zeros(2, 7), "BT"), "none": (torch.zeros(0), "N")}, D=4)


@pytest.mark.parametrize("call,message", [
    (lambda: cif(torch.zeros(2, 7, 4), torch.zeros(2, 8), LENGTHS),
     r"weights has shape \(2, 8\): what is wanted is \[B, T\] with B = 2 as in frames, T = 7 as in frames"),
    (lambda: cif(torch.zeros(2, 7, 4), torch.zeros(2, 7, 1), LENGTHS), r"weights has shape \(2, 7, 1\): what is wanted is \[B, T\]"),
    (lambda: CifPredictor(8)(torch.zeros(2, 7, 4), LENGTHS), r"states has shape \(2, 7, 4\): what is wanted is \[B, T, D\] with D = 8$"),
    (lambda: CifPredictor(8)(torch.zeros(2, 7, 8), LENGTHS, LENGTHS[:1]), r"targets has shape \(1,\): what is wanted is \[B\] with B = 2"),
    (lambda: CifPredictor(8).stream(torch.zeros(3, 7, 8), CifPredictor(8).init_state(2)), r"x has shape \(3, 7, 8\)"),
    (lambda: ParallelDecoder(TransformerDecoderConfig(8, 2, 8, 1), 9, 8)(torch.zeros(2, 3, 8), LENGTHS, torch.zeros(1, 7, 8), LENGTHS),
     r"memory has shape \(1, 7, 8\): what is wanted is \[B, T, D\] with B = 2 as in vectors, D = 8$"),
    (lambda: ConformerEncoder(ConformerConfig(8, 2, 8, 1), 5)(torch.zeros(2, 7, 6), LENGTHS), r"x has shape \(2, 7, 6\): .* with F = 5$"),
    (lambda: CifPredictor(8)(torch.zeros(2, 5, 8), torch.tensor([9, 5])), "lengths reach from 5 to 9, but there are 5 frames"),
    (lambda: CifPredictor(8)(torch.zeros(2, 5, 8), torch.tensor([5, -1])), "lengths reach from -1 to 5, but there are 5 frames"),
    (lambda: ConformerEncoder(ConformerConfig(8, 2, 8, 1), 5)(torch.zeros(2, 6, 5), LENGTHS),
     "lengths reach from 5 to 7, but there are 6 frames"),
    (lambda: TransformerEncoder(TransformerConfig(8, 2, 8, 1), 5)(torch.zeros(2, 6, 5), LENGTHS),
     "lengths reach from 5 to 7, but there are 6 frames"),
    (lambda: MultiHeadAttention(8, 2)(torch.zeros(2, 3, 8), torch.zeros(2, 2, 7, 4), torch.zeros(2, 2, 6, 4)),
     r"values has shape \(2, 2, 6, 4\): what is wanted is \[B, H, T, d\] with B = 2 as in x, H = 2, T = 7 as in keys, d = 4 as in keys"),
])
def test_what_does_not_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
