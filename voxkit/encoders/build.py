"""Encoders by name: any of them takes [B, T, F] and lengths, and says its `output_dim` and by how much it thins out frames."""

from __future__ import annotations

from typing import Any

from torch import nn

from voxkit.config import structure
from voxkit.encoders.conformer import ConformerConfig, ConformerEncoder
from voxkit.encoders.transformer import TransformerConfig, TransformerEncoder
from voxkit.encoders.zipformer import Zipformer, ZipformerConfig, from_preset

ENCODERS = {"transformer": (TransformerEncoder, TransformerConfig), "conformer": (ConformerEncoder, ConformerConfig)}


def build_encoder(options: dict[str, Any], input_dim: int, where: str = "model.encoder") -> nn.Module:
    """The encoder that `kind` names, with its options.

    Args:
        options: `kind` (transformer, conformer, zipformer) and fields of its configuration; of a Zipformer also `preset`. null takes
            out an option that a base set.
        input_dim: width of what comes in.

    Raises:
        ConfigError, ValueError: an unknown kind or option; the message lists the known ones.
    """
    rest = {key: value for key, value in options.items() if key != "kind" and value is not None}
    kind = options.get("kind", "conformer")
    if kind == "zipformer":
        preset = from_preset(rest.pop("preset", "plan"), input_dim=input_dim)
        return Zipformer(structure(ZipformerConfig, {**vars(preset), **rest}, where))
    if kind not in ENCODERS:
        raise ValueError(f"{where}.kind: {kind!r} is none of {', '.join([*ENCODERS, 'zipformer'])}")
    encoder, config = ENCODERS[kind]
    return encoder(structure(config, rest, where), input_dim)


def downsampling(encoder: nn.Module) -> int:
    """Frames in per frame out."""
    return encoder.config.output_downsampling if isinstance(encoder, Zipformer) else encoder.downsampling
