#!/usr/bin/env python3
"""Turn an icefall Zipformer checkpoint into a voxkit one, with the same output.

    python tools/import_icefall.py epoch-30-avg-9.pt --out models/zipformer --tokens data/lang_bpe_500/bpe.model

Reads what icefall's recipes egs/*/ASR/zipformer write: checkpoint-*.pt and epoch-*.pt ({"model": state_dict, ...}), averaged or exported
models (pretrained.pt), bare state dicts. Widths, layers, kernels and causality are read off the parameter shapes; what shapes do not
say (downsampling factors, query head width where heads differ, chunk sizes) has icefall's defaults and can be given under icefall's
names: --downsampling-factor 1,2,4,8,4,2. Front end, encoder and CTC head are taken; a transducer's decoder and joiner and an attention
decoder are left out, with a notice; any other parameter that has no place here is an error that names it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxkit.encoders.zipformer import ZipformerConfig


# icefall's names → ours; a layer's parts, then what is inside them
_FRONT_END = {"conv.0": "conv1", "conv.4": "conv2", "conv.7": "conv3", "convnext.depthwise_conv": "convnext.depthwise",
              "convnext.pointwise_conv1": "convnext.pointwise1", "convnext.pointwise_conv2": "convnext.pointwise2", "out": "out",
              "out_norm": "norm"}
_CONVOLUTION = {"in_proj": "in_proj", "out_proj": "out_proj", "depthwise_conv": "depthwise", "depthwise_conv.causal_conv": "depthwise.causal",
                "depthwise_conv.chunkwise_conv": "depthwise.chunkwise", "depthwise_conv.chunkwise_conv_scale": "depthwise.edge_scale"}
_PROJECTIONS = {"in_proj": "in_proj", "out_proj": "out_proj"}
_LAYER: dict[str, tuple[str, dict[str, str]]] = {
    "self_attn_weights": ("attention_weights", {"in_proj": "in_proj", "linear_pos": "linear_pos"}),
    "self_attn1": ("attention1", _PROJECTIONS), "self_attn2": ("attention2", _PROJECTIONS),
    "nonlin_attention": ("nonlinear_attention", _PROJECTIONS),
    **{f"feed_forward{i}": (f"feed_forward{i}", _PROJECTIONS) for i in (1, 2, 3)},
    **{f"conv_module{i}": (f"convolution{i}", _CONVOLUTION) for i in (1, 2)},
    "bypass": ("bypass", {"bypass_scale": "scale"}), "bypass_mid": ("bypass_mid", {"bypass_scale": "scale"}),
    "norm": ("norm", {"bias": "bias", "log_scale": "log_scale"}),
}
_LEFT_OUT = {"decoder": "the transducer's prediction network", "joiner": "the transducer's joiner", "simple_am_proj": "the transducer's simple loss",
             "simple_lm_proj": "the transducer's simple loss", "attention_decoder": "the attention decoder"}
_CHUNKS = {"chunk_size": [16, 32, 64, -1], "left_context_frames": [64, 128, 256, -1]}  # icefall's own, where the checkpoint is causal
_STACK_KWARGS = {"downsampling_factor": "downsampling_factor", "num_encoder_layers": "num_layers", "encoder_dim": "encoder_dim",
                 "encoder_unmasked_dim": "unmasked_dim", "num_heads": "num_heads", "feedforward_dim": "feedforward_dim",
                 "cnn_module_kernel": "kernel", "query_head_dim": "query_head_dim", "pos_head_dim": "pos_head_dim",
                 "value_head_dim": "value_head_dim"}
_OTHER_KWARGS = ("pos_dim", "causal", "output_downsampling_factor", "dropout", "warmup_batches", "feature_dim", *_CHUNKS)
_STACK = re.compile(r"encoder\.encoders\.(\d+)\.(?:encoder\.)?layers\.(\d+)\.(.+)")


def rename(name: str) -> str | None:
    """Our name of an icefall parameter, in a VoxFormer with the fbank front end; None where it has no place."""
    stem, _, leaf = name.rpartition(".")
    if name.startswith("encoder_embed.") and stem[len("encoder_embed."):] in _FRONT_END:
        return f"front_end.subsampling.{_FRONT_END[stem[len('encoder_embed.'):]]}.{leaf}"
    if name == "encoder.downsample_output.bias":
        return name
    if name in ("ctc_output.1.weight", "ctc_output.1.bias"):
        return f"ctc.{leaf}"
    if found := re.fullmatch(r"encoder\.encoders\.(\d+)\.(downsample\.bias|out_combiner\.bypass_scale)", name):
        return f"encoder.stacks.{found[1]}.{'bypass.scale' if found[2].startswith('out') else 'downsample.bias'}"
    if not (found := _STACK.fullmatch(name)):
        return None
    start = f"encoder.stacks.{found[1]}.layers.{found[2]}."
    if found[3] == "bypass_scale":
        return start + "unused_scale"
    part, _, rest = found[3].partition(".")
    ours, inside = _LAYER.get(part, ("", {}))
    if rest in inside:  # a parameter of the part itself
        return f"{start}{ours}.{inside[rest]}"
    module, _, leaf = rest.rpartition(".")
    return f"{start}{ours}.{inside[module]}.{leaf}" if module in inside else None


def infer_config(state: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> ZipformerConfig:
    """The architecture, from parameter shapes and icefall's constructor arguments.

    Raises:
        ValueError: no Zipformer; an argument that does not exist here or says otherwise than the shapes; heads that cannot be told.
    """
    unknown = sorted(set(kwargs) - set(_STACK_KWARGS) - set(_OTHER_KWARGS))
    if unknown:
        raise ValueError(f"unknown argument {', '.join(unknown)}; known: {', '.join([*_STACK_KWARGS, *_OTHER_KWARGS])}")
    layers: dict[int, set[int]] = {}
    for name in state:
        if found := _STACK.fullmatch(name):
            layers.setdefault(int(found[1]), set()).add(int(found[2]))
    if not layers or "encoder_embed.out.weight" not in state:
        raise ValueError("no Zipformer in this checkpoint: it has no encoder.encoders.*.layers.* or no encoder_embed.out.weight; "
                         f"its names start with {', '.join(sorted({n.split('.')[0] for n in state}))}")
    given = {ours: _list(kwargs[name], len(layers), name) for name, ours in _STACK_KWARGS.items() if name in kwargs}
    stacks: list[dict[str, int]] = []
    for i in sorted(layers):
        start = next(n for n in (f"encoder.encoders.{i}.layers.0.", f"encoder.encoders.{i}.encoder.layers.0.") if n + "norm.bias" in state)
        own = {name: values[i] for name, values in given.items()}
        stacks.append(_infer_stack(state, i, start, len(layers[i]), own))
    causal = any(name.endswith("chunkwise_conv_scale") for name in state)
    if bool(kwargs.get("causal", causal)) != causal:
        raise ValueError(f"causal: given as {kwargs['causal']}, but the checkpoint's convolutions are{'' if causal else ' not'} chunk-causal")
    config = ZipformerConfig(input_dim=state["encoder_embed.out.weight"].shape[0], causal=causal, isolate_padding=False,
                             **{name: [stack[name] for stack in stacks] for name in stacks[0]})
    config.pos_dim = state[start + "self_attn_weights.linear_pos.weight"].shape[1]
    config.output_downsampling = len(state.get("encoder.downsample_output.bias", [0]))
    if causal:
        config.chunk_size, config.left_context = (_list(kwargs.get(name, default), 0, name) for name, default in _CHUNKS.items())
    if isinstance(kwargs.get("dropout"), (int, float)):
        config.dropout = config.initial_dropout = float(kwargs["dropout"])
    config.warmup_batches = float(kwargs.get("warmup_batches", config.warmup_batches))
    for name, ours in (("pos_dim", config.pos_dim), ("output_downsampling_factor", config.output_downsampling)):
        if kwargs.get(name, ours) != ours:
            raise ValueError(f"{name}: given as {kwargs[name]}, but the parameter shapes say {ours}")
    if problems := config.problems():
        raise ValueError("; ".join(problems))
    return config


def _infer_stack(state: Mapping[str, Tensor], index: int, start: str, count: int, given: dict[str, int]) -> dict[str, int]:
    """Options of one stack from the shapes of its first layer, checked against those that were given."""
    dim = state[start + "norm.bias"].shape[0]
    convolution = start + "conv_module1.depthwise_conv."
    kernel = state[convolution + "weight" if convolution + "weight" in state else convolution + "chunkwise_conv.weight"].shape[-1]
    factor = state.get(f"encoder.encoders.{index}.downsample.bias")
    attention, positions = state[start + "self_attn_weights.in_proj.weight"].shape[0], state[start + "self_attn_weights.linear_pos.weight"].shape[0]
    values = state[start + "self_attn1.in_proj.weight"].shape[0]
    heads = given.get("num_heads") or positions // given.get("pos_head_dim", 4)
    if not heads or positions % heads or values % heads or attention % heads or (attention - positions) // heads % 2:
        raise ValueError(f"stack {index}: {heads} heads do not fit its shapes; give num_heads (or pos_head_dim, 4 where it is not given)")
    found = {"downsampling_factor": 1 if factor is None else len(factor), "num_layers": count, "encoder_dim": dim, "num_heads": heads,
             "feedforward_dim": state[start + "feed_forward2.in_proj.weight"].shape[0], "kernel": kernel,
             "query_head_dim": (attention - positions) // heads // 2, "pos_head_dim": positions // heads, "value_head_dim": values // heads}
    for name, value in found.items():
        if given.get(name, value) != value:
            theirs = next(key for key, ours in _STACK_KWARGS.items() if ours == name)
            raise ValueError(f"{theirs}: given as {given[name]} for stack {index}, but the parameter shapes say {value}")
    return {**found, "unmasked_dim": min(given.get("unmasked_dim", 256), dim)}


def import_state_dict(state: Mapping[str, Tensor], kwargs: Mapping[str, Any] | None = None, *,
                      notices: list[str] | None = None) -> tuple[ZipformerConfig, dict[str, Tensor]]:
    """Translate an icefall state dict.

    Args:
        state: icefall's names → tensors.
        kwargs: icefall's constructor arguments, as far as the shapes do not tell; scalars, sequences or "1,2,4" alike.
        notices: what was left out is appended here.

    Returns:
        The encoder's configuration, and parameters under the names of a VoxFormer with the fbank front end: `front_end.subsampling.*`,
        `encoder.*`, `ctc.*` (where there is a CTC head).

    Raises:
        ValueError: as `infer_config`; parameters that have no place, all named.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    left_out = {name for name in state if name.split(".")[0] in _LEFT_OUT}
    for top in sorted({name.split(".")[0] for name in left_out}):
        count = sum(state[name].numel() for name in left_out if name.split(".")[0] == top)
        if notices is not None:
            notices.append(f"left out: {top}.* ({_LEFT_OUT[top]}, {count} parameters)")
    taken = {name: rename(name) for name in state if name not in left_out}
    if strangers := [name for name, ours in taken.items() if ours is None]:
        raise ValueError(f"{len(strangers)} parameters have no place in voxkit's Zipformer: {', '.join(strangers)}")
    config = infer_config(state, kwargs or {})
    return config, {ours: state[name].float().clone() for name, ours in taken.items() if ours}


def _list(value: Any, count: int, name: str) -> list[int]:
    """An int, "1,2,4" or a sequence as a list of `count` ints (any number where 0)."""
    if isinstance(value, str):
        value = value.split(",")
    try:
        out = [int(v) for v in value] if hasattr(value, "__iter__") else [int(value)]
    except ValueError:
        raise ValueError(f"{name}: {value!r} is no list of whole numbers") from None
    if count and len(out) not in (1, count):
        raise ValueError(f"{name}: {len(out)} entries for {count} stacks")
    return out * count if count and len(out) == 1 else out
