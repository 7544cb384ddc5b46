"""Pretrained codecs through transformers: DAC (Kumar et al. 2023), EnCodec (Défossez et al. 2022), Mimi (Défossez et al. 2024)."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.batch import Padded
from voxkit.checkpoint.external import External
from voxkit.codecs.contract import Codec
from voxkit.hub import check_weights, hub_options, locate, reading
from voxkit.optional import require

FAMILIES = {"dac": "DacModel", "encodec": "EncodecModel", "mimi": "MimiModel"}  # model_type → class of transformers


class PretrainedCodec(Codec, External):
    """A codec of transformers behind the contract; frozen.

    Sequences are run one by one: none of these networks takes a padding mask that changes nothing.

    Args:
        name: Hugging Face name or folder (config.json, model.safetensors).

    Raises:
        ValueError: no such folder or name, or a model that is none of these, or one for several channels. MissingPackage: transformers.
    """

    def __init__(self, name: str | os.PathLike) -> None:
        transformers = require("transformers", "pretrained", why="a pretrained codec")
        source = locate(os.fspath(name))
        External.__init__(self, source)
        if source.folder:
            check_weights(source)
        where, options = source.folder or source.name, hub_options(source)
        with reading("codec", source):
            config = transformers.AutoConfig.from_pretrained(where, **options)
            if config.model_type not in FAMILIES:
                raise ValueError(f"{name} is a {config.model_type!r} model; the codecs are {', '.join(FAMILIES)}")
            model = getattr(transformers, FAMILIES[config.model_type]).from_pretrained(where, dtype=torch.float32, **options)
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False) or getattr(config, "chunk_length_s", None):
            raise ValueError(f"{name}: a codec of {getattr(config, 'audio_channels', 1)} channels that scales and cuts its audio; take one "
                             "for one channel, such as facebook/encodec_24khz")
        self.family, self.model = config.model_type, model.eval().requires_grad_(False)
        self.sample_rate, self.size = int(config.sampling_rate), int(config.codebook_size)
        self.hop, self.codebooks = self._sizes(config)
        self.frame_rate = self.sample_rate / self.hop

    def train(self, mode: bool = True) -> PretrainedCodec:
        """It stays as it is in use."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, audio: Padded) -> Padded:
        """audio [B, S] at `sample_rate` → codes [B, T, Q]."""
        found = []
        for wave, length in zip(audio.values, audio.lengths.tolist()):
            frames = max(1, -(-length // self.hop))
            wave = F.pad(wave[:length], (0, frames * self.hop - length))[None, None]
            codes = self._codes(wave)[0].T[:frames]
            found.append(torch.cat((codes, codes[-1:].expand(frames - len(codes), -1))))
        return Padded.of(found)

    @torch.no_grad()
    def decode(self, codes: Padded) -> Padded:
        """codes [B, T, q] of the first q books → audio [B, T · hop]."""
        self.check_codes(codes.values)
        found = []
        for one, length in zip(codes.values, codes.lengths.tolist()):
            wave = self._audio(one[:length].T[None])[0, 0]
            found.append(F.pad(wave, (0, max(0, length * self.hop - len(wave))))[:length * self.hop])
        return Padded.of(found)

    def _sizes(self, config: Any) -> tuple[int, int]:
        """Samples of a frame, and how many books there are."""
        if self.family == "dac":
            return int(config.hop_length), int(config.n_codebooks)
        if self.family == "encodec":
            return int(config.hop_length), int(config.num_quantizers)
        return round(config.sampling_rate / config.frame_rate), int(config.num_quantizers)

    def _codes(self, wave: Tensor) -> Tensor:
        """[1, 1, S] → [1, Q, T]."""
        if self.family == "encodec":
            return self.model.encode(wave, bandwidth=max(self.model.config.target_bandwidths)).audio_codes[0]
        return self.model.encode(wave).audio_codes

    def _audio(self, codes: Tensor) -> Tensor:
        """[1, q, T] → [1, 1, S]."""
        if self.family == "encodec":
            return self.model.decode(codes[None], [None])[0]
        found = self.model.decode(audio_codes=codes).audio_values
        return found if found.ndim == 3 else found[:, None]
