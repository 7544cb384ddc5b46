"""Encoders by name: any of them takes [B, T, F] and lengths, and says its `output_dim` and by how much it thins out frames."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import nn

from voxkit.config import ConfigError, structure
from voxkit.encoders.conformer import ConformerConfig, ConformerEncoder
from voxkit.encoders.lact import LaCTConfig, LaCTEncoder
from voxkit.encoders.none import NoEncoder, NoEncoderConfig
from voxkit.encoders.transformer import TransformerConfig, TransformerEncoder
from voxkit.encoders.zipformer import Zipformer, ZipformerConfig, from_preset

ENCODERS = {"transformer": (TransformerEncoder, TransformerConfig), "conformer": (ConformerEncoder, ConformerConfig),
            "lact": (LaCTEncoder, LaCTConfig), "none": (NoEncoder, NoEncoderConfig)}
CONFIGS = {**{kind: config for kind, (_, config) in ENCODERS.items()}, "zipformer": ZipformerConfig}


def build_encoder(options: dict[str, Any], input_dim: int, where: str = "model.encoder") -> nn.Module:
    """The encoder that `kind` names, with its options.

    Args:
        options: `kind` (transformer, conformer, lact, zipformer, none) and fields of its configuration; of a Zipformer also `preset`. null
            takes out an option that a base set.
        input_dim: width of what comes in.

    Raises:
        ConfigError: an unknown kind or option; the message lists the known ones, or says how to take out what is another kind's.
    """
    rest = {key: value for key, value in options.items() if key != "kind" and value is not None}
    kind = options.get("kind", "conformer")
    if kind not in CONFIGS:
        raise ConfigError(f"{where}.kind: {kind!r} is none of {', '.join(CONFIGS)}")
    if foreign := _foreign(kind, rest):
        raise ConfigError(f"{where}: kind {kind} has no {', '.join(foreign)}, which another kind has; a base may have set them: take them "
                          f"out with {' '.join(f'{where}.{name}=null' for name in foreign)}")
    if kind == "zipformer":
        preset = from_preset(rest.pop("preset", "plan"), input_dim=input_dim)
        return Zipformer(structure(ZipformerConfig, {**vars(preset), **rest}, where))
    encoder, config = ENCODERS[kind]
    return encoder(structure(config, rest, where), input_dim)


def _foreign(kind: str, options: dict[str, Any]) -> list[str]:
    """Those of the options that another kind has and this one does not."""
    names = {of: {field.name for field in fields(config)} for of, config in CONFIGS.items()}
    names["zipformer"].add("preset")
    return [name for name in options if name not in names[kind] and any(name in of for of in names.values())]
