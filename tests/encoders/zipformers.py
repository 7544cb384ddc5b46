"""A small Zipformer of every kind of stack."""

from __future__ import annotations

from torch import nn

from voxkit.encoders.zipformer import Zipformer, ZipformerConfig

SMALL = {"downsampling_factor": [1, 2, 4, 2], "num_layers": [1, 2, 1, 1], "encoder_dim": [16, 24, 32, 24], "unmasked_dim": [12],
         "num_heads": [2], "feedforward_dim": [32], "kernel": [7], "query_head_dim": [8], "pos_dim": 16}


def small(input_dim: int = 16, **changes) -> Zipformer:
    net = Zipformer(ZipformerConfig(**{"input_dim": input_dim, **SMALL, **changes})).eval()
    for name, p in net.named_parameters():  # nothing at a start value that hides something
        if name.endswith(("downsample.bias", "downsample_output.bias", "edge_scale")):
            nn.init.normal_(p)
    return net
