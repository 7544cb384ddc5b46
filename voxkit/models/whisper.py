"""Whisper as a system (Radford et al. 2022, arXiv 2212.04356): its encoder, its own decoder, its byte-level vocabulary.

    audio ─ log-mel, padded to 30 s ─ encoder ─ decoder, told language and task ─ text

It needs no training: `voxkit import whisper FOLDER` makes a checkpoint of a pretrained one. Padding a clip to 30 s costs most of the time
on short ones; `model.padded=false` cuts the encoder to the clip, and its decoder, which never met that, loops until it is trained for it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from voxkit.batch import Batch
from voxkit.decoders.transformer import TransformerDecoderConfig
from voxkit.decoders.whisper import WhisperDecoder, WhisperTokens
from voxkit.encoders.pretrained.loading import empty_whisper
from voxkit.files import read_text
from voxkit.hub import check_weights, hub_options, locate, reading
from voxkit.losses.hybrid import correct_tokens, label_smoothed_cross_entropy
from voxkit.models.contract import Encoded, Listener, Losses
from voxkit.optional import require
from voxkit.rate import RATE
from voxkit.search.heads import Heads
from voxkit.system import System, TokenIds

_SECONDS_PER_FRAME = 0.02


@dataclass
class WhisperSizes:
    """Attributes: mel_bins; source_positions: frames of the encoder, 50 a second; dim: of encoder and decoder; the rest of each."""

    mel_bins: int = 80
    source_positions: int = 1500
    dim: int = 512
    encoder_layers: int = 6
    encoder_heads: int = 8
    encoder_ffn: int = 2048
    decoder_layers: int = 6
    decoder_heads: int = 8
    decoder_ffn: int = 2048
    positions: int = 448


@dataclass
class WhisperModelConfig:
    """Attributes:
    vocab_size: tokens of the vocabulary; 0 = as it says.
    outputs: tokens that the decoder scores, which may be a few more.
    sizes: of the networks. tokens: which special ones there are.
    language: "en", ... or "auto", which finds it out for every utterance. task: "transcribe" or "translate".
    padded: pad clips to 30 s, as in its training.
    dropout, label_smoothing: in training.
    """

    vocab_size: int = 0
    outputs: int = 51865
    sizes: WhisperSizes = field(default_factory=WhisperSizes)
    tokens: WhisperTokens = field(default_factory=WhisperTokens)
    language: str = "auto"
    task: str = "transcribe"
    padded: bool = True
    dropout: float = 0.0
    label_smoothing: float = 0.1

    def problems(self) -> list[str]:
        try:
            self.tokens.prompt(self.language, self.task)
        except ValueError as error:
            return [str(error)]
        return []


class Whisper(Listener):
    """The model.

    Args:
        config: with sizes and tokens of a pretrained one.
    """

    def __init__(self, config: WhisperModelConfig) -> None:
        super().__init__()
        self.config, sizes = config, config.sizes
        self.encoder = empty_whisper(sizes.mel_bins, sizes.source_positions, sizes.dim, sizes.encoder_layers, sizes.encoder_heads,
                                     sizes.encoder_ffn)
        decoder = TransformerDecoderConfig(sizes.dim, sizes.decoder_heads, sizes.decoder_ffn, sizes.decoder_layers, config.dropout)
        self.decoder = WhisperDecoder(decoder, config.outputs, sizes.positions, config.tokens, config.language, config.task, config.padded)

    @property
    def heads(self) -> Heads:
        """The decoder alone."""
        return Heads(decoder=self.decoder)

    @property
    def seconds_per_frame(self) -> float:
        """Of the states."""
        return _SECONDS_PER_FRAME

    @property
    def max_seconds(self) -> float:
        """What the encoder has positions for: 30 s."""
        return self.config.sizes.source_positions * _SECONDS_PER_FRAME

    def most_tokens(self, seconds: float) -> float:
        """As many as positions are left behind the prompt."""
        return self.decoder.most_tokens

    def encode(self, batch: Batch, carried: Any = None) -> Encoded:
        """A batch of audio → states [B, 1500, D] of clips padded to 30 s, or [B, T', D]; lengths [B] count those of the audio.

        Raises:
            ValueError: no audio, or an utterance of more than 30 s.
        """
        if batch.audio is None:
            raise ValueError("Whisper takes audio; set data.input to audio")
        audio, lengths = batch.audio.values, batch.audio.lengths
        hop = int(RATE * _SECONDS_PER_FRAME)
        frames = lengths.add(hop - 1).div(hop, rounding_mode="floor")
        if self.config.padded:
            whole = self.config.sizes.source_positions * hop
            if not torch.compiler.is_exporting() and bool((lengths > whole).any()):
                named = ", ".join(i for i, n in zip(batch.ids, lengths.tolist()) if n > whole)
                raise ValueError(f"Whisper takes at most {self.max_seconds:.0f} s; too long: {named}. Cut them into pieces, or leave them "
                                 "out")
            audio = F.pad(audio.masked_fill(torch.arange(audio.shape[1], device=audio.device) >= lengths[:, None], 0.0),
                          (0, whole - audio.shape[1]))
            seen = torch.full_like(lengths, whole)
        else:
            seen = lengths
        x, own = self.encoder.embed(audio, seen)
        context = self.encoder.context(own, x.shape[1])
        for index in range(len(self.encoder.layers)):
            x = self.encoder.layer(index, x, context)
        return Encoded(self.encoder.final(x), frames, lengths / RATE)

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy per token, nats; "accuracy" is of the next token, teacher-forced."""
        assert batch.tokens is not None
        states, lengths = self.encode(batch)[:2]
        inputs, targets, _ = self.decoder.teacher_forcing(batch.tokens.values, batch.tokens.lengths)
        logits = self.decoder(inputs, states, lengths)
        weight = (targets != -100).sum()
        total = label_smoothed_cross_entropy(logits, targets, self.config.label_smoothing).sum() / weight
        return Losses(total, weight, {"attention": total.detach()}, {"accuracy": correct_tokens(logits, targets)})


def build(config: WhisperModelConfig, tokens: TokenIds) -> Whisper:
    """
    Raises:
        ValueError: a vocabulary with more tokens than the decoder scores.
    """
    if tokens.size > config.outputs:
        raise ValueError(f"the vocabulary has {tokens.size} tokens and the decoder scores {config.outputs}: they do not belong together")
    model = Whisper(config)
    model.decoder.silent[:, tokens.size:] = True  # time marks, which some vocabularies do not list
    return model


def read_pretrained(name: str | os.PathLike, language: str = "auto", task: str = "transcribe") -> tuple[WhisperModelConfig, Whisper]:
    """A pretrained Whisper by Hugging Face name or folder, in float32.

    Raises:
        ValueError: no such folder or name, or no Whisper; a language that it does not know. MissingPackage: transformers.
    """
    transformers = require("transformers", "pretrained", why="importing a Whisper")
    source = locate(os.fspath(name))
    check_weights(source)
    with reading("Whisper", source):
        found = transformers.WhisperForConditionalGeneration.from_pretrained(source.folder or source.name, dtype=torch.float32,
                                                                             **hub_options(source))
    about = Path(source.folder) / "generation_config.json"
    generation = json.loads(read_text(about)) if source.folder and about.is_file() else found.generation_config.to_dict()
    c = found.config
    if found.config.model_type != "whisper":
        raise ValueError(f"{name} is a {found.config.model_type!r} model and no Whisper")
    sizes = WhisperSizes(c.num_mel_bins, c.max_source_positions, c.d_model, c.encoder_layers, c.encoder_attention_heads, c.encoder_ffn_dim,
                         c.decoder_layers, c.decoder_attention_heads, c.decoder_ffn_dim, c.max_target_positions)
    config = WhisperModelConfig(outputs=c.vocab_size, sizes=sizes, tokens=_tokens(generation), language=language, task=task)
    if not config.tokens.languages:
        config.language = "en"
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    model = Whisper(config)
    model.load_state_dict(_renamed(found.state_dict()), strict=True)
    return config, model.eval()


def _tokens(generation: dict[str, Any]) -> WhisperTokens:
    """Of generation_config.json."""
    languages = {code.strip("<|>"): token for code, token in (generation.get("lang_to_id") or {}).items()}
    return WhisperTokens(
        start=generation["decoder_start_token_id"], end=generation["eos_token_id"], plain=generation["no_timestamps_token_id"],
        languages=languages, tasks=dict(generation.get("task_to_id") or {}), suppressed=list(generation.get("suppress_tokens") or []),
        suppressed_first=list(generation.get("begin_suppress_tokens") or []),
        alignment_heads=[list(pair) for pair in generation.get("alignment_heads") or []])


_NAMES = (("model.encoder.embed_positions", "encoder.positions"), ("model.encoder.layer_norm", "encoder.last_norm"),
          ("model.encoder.", "encoder."),
          ("model.decoder.embed_tokens", "decoder.embedding"), ("model.decoder.embed_positions", "decoder.positions"),
          ("model.decoder.layer_norm", "decoder.norm"), ("model.decoder.", "decoder."))
_IN_DECODER = (
    (".self_attn_layer_norm.", ".self_norm."), (".encoder_attn_layer_norm.", ".cross_norm."), (".final_layer_norm.", ".ffn_norm."),
    (".self_attn.", ".self_attention."), (".encoder_attn.", ".cross_attention."), (".q_proj.", ".query."), (".k_proj.", ".key."),
    (".v_proj.", ".value."), (".out_proj.", ".output."), (".fc1.", ".ffn.0."), (".fc2.", ".ffn.3."))


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names → ours."""
    out = {}
    for name, value in state.items():
        if name == "proj_out.weight":
            name = "decoder.output.weight"
        for theirs, ours in _NAMES:
            if name.startswith(theirs):
                name = ours + name[len(theirs):]
                break
        if name.startswith("decoder."):
            for theirs, ours in _IN_DECODER:
                name = name.replace(theirs, ours)
        out[name] = value
    return out


SYSTEM = System(WhisperModelConfig, build, graphs=("encoder", "decoder"))
