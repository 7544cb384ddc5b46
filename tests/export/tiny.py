"""A checkpoint of a VoxFormer with random weights, small enough to export in seconds, and some audio."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch

from tests.encoders.tiny import save_model
from voxkit import config as configuration
from voxkit.checkpoint.format import write_checkpoint
from voxkit.checkpoint.loading import Loaded
from voxkit.infer.checkpoint import load_checkpoint
from voxkit.run_config import make_setup
from voxkit.text.sentencepiece import train_bpe

TEXTS = ["enemy landing zone detected", "move to the base", "hold the line and wait for my order", "the tank is ready", "retreat now"]
ENCODER = {"preset": "toy", "downsampling_factor": [1, 2], "num_layers": [1], "encoder_dim": [32, 48], "unmasked_dim": [32],
           "feedforward_dim": [48, 64], "query_head_dim": [8], "value_head_dim": [8], "num_heads": [2], "pos_dim": 16}


def make_checkpoint(folder: Path, kind: str = "fbank", causal: bool = False, transducer: bool = False) -> Path:
    """A checkpoint directory. `kind`: fbank, or one of tests.encoders.tiny.KINDS, causal: with chunks, transducer: that head too. Heads are
    large, so that texts are not all blank."""
    tokenizer = train_bpe(TEXTS, 60, folder / "bpe")
    front_end = {"adapter_hidden": 16, "adapter_dim": 32, "subsampling_dim": 32, "pretrained": {"name": "none", "dtype": "bfloat16"}}
    front_end["kind"] = "fbank" if kind == "fbank" else "pretrained"
    if kind != "fbank":
        front_end["pretrained"] |= {"name": str(save_model(kind, folder))}
    encoder = ENCODER
    if causal:
        encoder = {**ENCODER, "causal": True, "chunk_size": [16, 32, -1], "left_context": [64, -1]}
    decoder = {"dim": 16, "heads": 2, "ffn": 32, "layers": 1}
    heads = {"transducer": {"decoder_dim": 16, "joiner_dim": 24}, "loss": {"transducer": 0.5}} if transducer else {}
    path = folder / "setup.yaml"
    path.write_text(json.dumps({"name": "tiny", "model": {"front_end": front_end, "encoder": encoder, "decoder": decoder, **heads}}))
    node = configuration.load(path)
    setup = make_setup(node)
    torch.manual_seed(0)
    model = setup.build_model(tokenizer.size)
    with torch.no_grad():
        model.ctc.weight.mul_(20)
        if transducer:
            joiner = model.transducer.joiner
            for linear in (joiner.encoder_proj, joiner.decoder_proj, joiner.output_linear):
                linear.weight.mul_(8)
            joiner.output_linear.bias[0] += 2
            joiner.output_linear.bias[1:4] -= 20  # special ones, which sherpa-onnx would write out

    def extra(directory: Path) -> None:
        configuration.save(setup.as_mapping(), directory / "config.yaml")
        tokenizer.save(directory / "tokenizer.model")

    return write_checkpoint(folder / "checkpoints", model, {"step": 7}, save_extra=extra).path


@functools.cache
def loaded(folder: Path, kind: str = "fbank", causal: bool = False, transducer: bool = False) -> Loaded:
    """The same, loaded."""
    return load_checkpoint(make_checkpoint(folder, kind, causal, transducer))


def waves(*seconds: float) -> list[np.ndarray]:
    """Chirps in noise, [S] float32, so that not every frame is alike."""
    generator = np.random.default_rng(1)
    out = []
    for length in seconds:
        time = np.arange(int(16000 * length)) / 16000
        tone = np.sin(2 * np.pi * (300 * time + 700 * time * (1 + np.sin(5 * time)))) * (np.sin(7 * time) > -0.3)
        out.append((0.2 * tone + 0.02 * generator.standard_normal(len(time))).astype(np.float32))
    return out
