#!/usr/bin/env python3
"""Turn an icefall Zipformer checkpoint into a voxkit one, with the same output.

    python tools/import_icefall.py exp/pretrained.pt --out models/zipformer --bpe-model data/lang_bpe_500/bpe.model

Reads what icefall's recipes egs/*/ASR/zipformer write: checkpoint-*.pt and epoch-*.pt ({"model": state_dict, ...}), averaged or exported
models (pretrained.pt), bare state dicts. Widths, layers, kernels and causality are read off the parameter shapes; what shapes do not
say (downsampling factors, query head width where heads differ, chunk sizes) has icefall's defaults and can be given under icefall's
names: --downsampling-factor 1,2,4,8,4,2. Front end, encoder, transducer and CTC head are taken; an attention decoder is left out, with a
notice; any other parameter that has no place here is an error that names it.
Several checkpoints are averaged; --use-averaged-model takes the running averages in them instead, as icefall's option of that name does:
that of one checkpoint, or between two. icefall's tokenizer has three special tokens (<blk>, <sos/eos>, <unk>), voxkit's four: with
--bpe-model the vocabulary and the heads get a fourth, which is never emitted.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PosixPath
from typing import Any

import torch
from torch import Tensor

from voxkit.encoders.zipformer import ZipformerConfig

# icefall's names → ours; a layer's parts, then what is inside them
_FRONT_END = {"conv.0": "conv1", "conv.4": "conv2", "conv.7": "conv3", "convnext.depthwise_conv": "convnext.depthwise",
              "convnext.pointwise_conv1": "convnext.pointwise1", "convnext.pointwise_conv2": "convnext.pointwise2", "out": "out",
              "out_norm": "norm"}
_CONVOLUTION = {"in_proj": "in_proj", "out_proj": "out_proj", "depthwise_conv": "depthwise",
                "depthwise_conv.causal_conv": "depthwise.causal", "depthwise_conv.chunkwise_conv": "depthwise.chunkwise",
                "depthwise_conv.chunkwise_conv_scale": "depthwise.edge_scale"}
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
_TRANSDUCER = re.compile(r"decoder\.(embedding|conv)\.weight|"
                         r"(joiner\.(encoder_proj|decoder_proj|output_linear)|simple_am_proj|simple_lm_proj)\.(weight|bias)")
_PER_TOKEN = ("ctc.weight", "ctc.bias", "transducer.decoder.embedding.weight",
              *(f"transducer.{part}.{leaf}" for part in ("joiner.output_linear", "simple_am_proj", "simple_lm_proj")
                for leaf in ("weight", "bias")))
_LEFT_OUT = "attention_decoder."
_CHUNKS = {"chunk_size": [16, 32, 64, -1], "left_context_frames": [64, 128, 256, -1]}  # icefall's own, where the checkpoint is causal
_STACK_KWARGS = {"downsampling_factor": "downsampling_factor", "num_encoder_layers": "num_layers", "encoder_dim": "encoder_dim",
                 "encoder_unmasked_dim": "unmasked_dim", "num_heads": "num_heads", "feedforward_dim": "feedforward_dim",
                 "cnn_module_kernel": "kernel", "query_head_dim": "query_head_dim", "pos_head_dim": "pos_head_dim",
                 "value_head_dim": "value_head_dim"}
_TRANSDUCER_KWARGS = {"decoder_dim": "decoder_dim", "joiner_dim": "joiner_dim", "context_size": "context"}
_OTHER_KWARGS = (*_TRANSDUCER_KWARGS, "pos_dim", "causal", "output_downsampling_factor", "dropout", "warmup_batches", "feature_dim",
                 *_CHUNKS)
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
    if _TRANSDUCER.fullmatch(name):
        return f"transducer.{name}"
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
        ValueError: an argument that does not exist here or says otherwise than the shapes; heads that cannot be told.
    """
    unknown = sorted(set(kwargs) - set(_STACK_KWARGS) - set(_OTHER_KWARGS))
    if unknown:
        raise ValueError(f"unknown argument {', '.join(unknown)}; known: {', '.join([*_STACK_KWARGS, *_OTHER_KWARGS])}")
    layers: dict[int, set[int]] = {}
    for name in state:
        if found := _STACK.fullmatch(name):
            layers.setdefault(int(found[1]), set()).add(int(found[2]))
    given = {ours: _list(kwargs[name], len(layers), name) for name, ours in _STACK_KWARGS.items() if name in kwargs}
    stacks: list[dict[str, int]] = []
    for i in sorted(layers):
        start = next(n for n in (f"encoder.encoders.{i}.layers.0.", f"encoder.encoders.{i}.encoder.layers.0.") if n + "norm.bias" in state)
        own = {name: values[i] for name, values in given.items()}
        stacks.append(_infer_stack(state, i, start, len(layers[i]), own))
    causal = any(name.endswith("chunkwise_conv_scale") for name in state)
    if bool(kwargs.get("causal", causal)) != causal:
        raise ValueError(f"causal: given as {kwargs['causal']}, but the convolutions are{'' if causal else ' not'} chunk-causal")
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


def transducer_options(state: Mapping[str, Tensor], kwargs: Mapping[str, Any] | None = None) -> dict[str, int] | None:
    """Sizes of the transducer among parameters under our names, as TransducerConfig has them; None where there is none.

    Raises:
        ValueError: parts of it are missing, or an argument says otherwise than the shapes.
    """
    part = {name.removeprefix("transducer."): value for name, value in state.items() if name.startswith("transducer.")}
    if not part:
        return None
    needed = ["decoder.embedding.weight", *(f"joiner.{layer}.{leaf}" for layer in ("encoder_proj", "decoder_proj", "output_linear")
                                            for leaf in ("weight", "bias"))]
    if missing := [name for name in needed if name not in part]:
        raise ValueError(f"the transducer lacks {', '.join(missing)}")
    conv = part.get("decoder.conv.weight")  # [D, D / groups, context]; a context of one token has none
    found = {"decoder_dim": part[needed[0]].shape[1], "joiner_dim": part["joiner.encoder_proj.weight"].shape[0],
             "context": 1 if conv is None else conv.shape[2], "group_size": 1 if conv is None else conv.shape[1]}
    for theirs, ours in _TRANSDUCER_KWARGS.items():
        given = (kwargs or {}).get(theirs)
        if given not in (None, found[ours]):
            raise ValueError(f"{theirs}: given as {given}, but the parameter shapes say {found[ours]}")
    return found


def _infer_stack(state: Mapping[str, Tensor], index: int, start: str, count: int, given: dict[str, int]) -> dict[str, int]:
    """Options of one stack from the shapes of its first layer, checked against those that were given."""
    dim = state[start + "norm.bias"].shape[0]
    convolution = start + "conv_module1.depthwise_conv."
    kernel = state[convolution + "weight" if convolution + "weight" in state else convolution + "chunkwise_conv.weight"].shape[-1]
    factor = state.get(f"encoder.encoders.{index}.downsample.bias")
    attention, positions, values = (state[f"{start}{part}.weight"].shape[0] for part in
                                    ("self_attn_weights.in_proj", "self_attn_weights.linear_pos", "self_attn1.in_proj"))
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
        `encoder.*`, `ctc.*` and `transducer.*` (where there is such a head).

    Raises:
        ValueError: no Zipformer; as `infer_config`; parameters that have no place, all named.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    left_out = {name for name in state if name.startswith(_LEFT_OUT)}
    if left_out and notices is not None:
        notices.append(f"left out: {_LEFT_OUT}* (the attention decoder, {sum(state[name].numel() for name in left_out)} parameters)")
    taken = {name: rename(name) for name in state if name not in left_out}
    if not any(_STACK.fullmatch(name) for name in state) or "encoder_embed.out.weight" not in state:
        raise ValueError("no Zipformer in this checkpoint: it has no encoder.encoders.*.layers.* or no encoder_embed.out.weight; "
                         f"its names start with {', '.join(sorted({n.split('.')[0] for n in state}))}")
    if strangers := [name for name, ours in taken.items() if ours is None]:
        raise ValueError(f"{len(strangers)} parameters have no place in voxkit's Zipformer: {', '.join(strangers)}")
    config = infer_config(state, kwargs or {})
    out = {ours: state[name].float().clone() for name, ours in taken.items() if ours}
    transducer_options(out, kwargs)
    return config, out


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


def load_checkpoint(path: Path) -> Mapping[str, Any]:
    """What is in an icefall checkpoint; nothing but plain values is unpickled, and the paths among its options (exp_dir, ...)."""
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}")
    try:
        with torch.serialization.safe_globals([PosixPath]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: not readable as tensors only ({error}); save its state dict alone: "
                         "torch.save(torch.load(path, weights_only=False)['model'], new_path)") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: no state dict in it but a {type(found).__name__}")
    return found


def read_checkpoints(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The state dict in one, or the mean of those in several."""
    states = []
    for path in paths:
        found = load_checkpoint(path)
        for key in ("model", "state_dict"):
            if isinstance(found.get(key), Mapping):
                found = found[key]
        if not all(torch.is_tensor(v) for v in found.values()):
            raise ValueError(f"{path}: no state dict in it (looked for 'model', 'state_dict' or the tensors themselves)")
        states.append(found)
    if len({frozenset(state) for state in states}) > 1:
        raise ValueError("the checkpoints have different parameters and cannot be averaged")
    return {name: torch.stack([s[name].float() for s in states]).mean(0) if len(states) > 1 else states[0][name] for name in states[0]}


def read_running_average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of all weights since the start of training, out of one checkpoint; between two of them, out of both."""
    if len(paths) > 2:
        raise ValueError(f"--use-averaged-model averages what lies between two checkpoints, and {len(paths)} are given")
    found = [load_checkpoint(path) for path in paths]
    for path, one in zip(paths, found):
        if missing := [key for key in ("model_avg", "batch_idx_train") if key not in one]:
            raise ValueError(f"{path}: it holds no {' and no '.join(missing)}: was it trained with --use-averaged-model?")
    first, last = found[0], found[-1]
    if len(found) == 1:
        return dict(last["model_avg"])
    start, end = first["batch_idx_train"], last["batch_idx_train"]
    if not start < end:
        raise ValueError(f"--use-averaged-model: {paths[0]} is of batch {start}, {paths[1]} of {end}: the earlier one first")
    return {name: (value.double() * end - first["model_avg"][name].double() * start) / (end - start)
            for name, value in last["model_avg"].items()}


def convert_tokenizer(path: Path) -> tuple[bytes, list[int]]:
    """icefall's bpe.model with voxkit's special tokens, and which of icefall's ids each token was (-1: none)."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.ParseFromString(path.read_bytes())
    pieces = [(piece.piece, piece.score, piece.type) for piece in model.pieces]
    if [piece[0] for piece in pieces[:3]] != ["<blk>", "<sos/eos>", "<unk>"]:
        raise ValueError(f"{path}: an icefall tokenizer starts with <blk>, <sos/eos>, <unk>, not {[piece[0] for piece in pieces[:3]]}")
    kind = pb.ModelProto.SentencePiece
    special = [("<pad>", 0.0, kind.CONTROL), ("<s>", 0.0, kind.CONTROL), ("</s>", 0.0, kind.CONTROL), ("<unk>", 0.0, kind.UNKNOWN)]
    del model.pieces[:]
    for piece, score, type_ in special + pieces[3:]:
        model.pieces.add(piece=piece, score=score, type=type_)
    spec = model.trainer_spec
    spec.pad_id, spec.bos_id, spec.eos_id, spec.unk_id, spec.vocab_size = 0, 1, 2, 3, len(model.pieces)
    spec.pad_piece, spec.bos_piece, spec.eos_piece, spec.unk_piece = "<pad>", "<s>", "</s>", "<unk>"
    del spec.user_defined_symbols[:]
    return model.SerializeToString(), [0, 1, -1, 2, *range(3, len(pieces))]


def with_our_specials(state: Mapping[str, Tensor], tokenizer: Path) -> tuple[dict[str, Tensor], bytes]:
    """Parameters over voxkit's tokens instead of icefall's, and the tokenizer of those; the token that is new is never emitted."""
    model_bytes, ids = convert_tokenizer(tokenizer)
    rows, out = torch.tensor(ids).clamp(min=0), dict(state)
    for name in (n for n in _PER_TOKEN if n in out):
        if len(ids) != len(out[name]) + 1:
            raise ValueError(f"{tokenizer} has {len(ids) - 1} tokens, {name} {len(out[name])}: not the model's tokenizer")
        out[name] = out[name][rows]
        out[name][ids.index(-1)] = -1e4 if name.endswith("bias") else 0.0
    return out, model_bytes


def add_missing_heads(state: Mapping[str, Tensor], config: ZipformerConfig, notices: list[str]) -> dict[str, Tensor]:
    """Parameters that a VoxFormer has and the checkpoint lacks, untrained."""
    out = dict(state)
    if "transducer.decoder.embedding.weight" in out:
        vocab, dim = out["transducer.decoder.embedding.weight"].shape
        for name, width in (("simple_am_proj", config.output_dim), ("simple_lm_proj", dim)):
            if f"transducer.{name}.weight" not in out:
                notices.append(f"no {name} in the checkpoint: the new one is untrained; only further training would look at it")
                out |= {f"transducer.{name}.weight": torch.zeros(vocab, width), f"transducer.{name}.bias": torch.zeros(vocab)}
    elif "ctc.weight" not in out:
        notices.append("no CTC head (ctc_output), no transducer in the checkpoint: the new CTC head is untrained, only the encoder of use")
        out |= {"ctc.weight": torch.zeros(500, config.output_dim), "ctc.bias": torch.zeros(500)}
    return out


def write_checkpoint(out: Path, config: ZipformerConfig, state: dict[str, Tensor], feature_dim: int, source: str,
                     tokenizer: Path | None, notices: list[str], start: str = "blank") -> None:
    """A voxkit checkpoint directory: config.yaml, model.safetensors, meta.json, and tokenizer.model where there is a tokenizer. start: what
    a search puts before the transducer's first token (TransducerConfig)."""
    from voxkit import config as configuration
    from voxkit.checkpoint.format import write_state
    from voxkit.encoders.front_end import FrontEndConfig
    from voxkit.models.voxformer import VoxFormer, VoxFormerConfig

    sizes, model_bytes = transducer_options(state), b""
    if tokenizer is not None and (sizes or "ctc.weight" in state):
        state, model_bytes = with_our_specials(state, tokenizer)
    state = add_missing_heads(state, config, notices)
    front_end: dict[str, Any] = {"kind": "fbank", "fbank_bins": feature_dim, "subsampling_dim": config.input_dim}
    if "isolate_padding" in {field.name for field in dataclasses.fields(FrontEndConfig)}:
        front_end["isolate_padding"] = False
    ctc = float("ctc.weight" in state) * (0.2 if sizes else 1.0)  # beside a transducer, icefall's weight
    options = {"vocab_size": next(len(state[name]) for name in _PER_TOKEN if name in state), "front_end": front_end,
               "encoder": dataclasses.asdict(config), "transducer": {**(sizes or {}), "start": start},
               "loss": {"attention": 0.0, "start_attention": 0.0, "ctc": ctc, "start_ctc": ctc, "transducer": float(bool(sizes))}}
    model_config = configuration.structure(VoxFormerConfig, options, "model")
    model = VoxFormer(model_config)
    model.load_state_dict(state)
    searched = {"method": "transducer_greedy", "validation_method": "transducer_greedy"} if sizes else {}

    def save_extra(directory: Path) -> None:
        recipe = {"name": out.name, "system": "voxformer", "model": model_config, "decode": searched}
        configuration.save(recipe, directory / "config.yaml")
        if model_bytes:
            (directory / "tokenizer.model").write_bytes(model_bytes)

    write_state(out, model.state_dict(), {"step": 0, "source": source, "notices": notices, "left_out": []}, save_extra=save_extra)


def feature_dim(state: Mapping[str, Tensor], given: int | None) -> int:
    """Mel bins that the front end takes: 80 where they fit, as several numbers may."""
    bins = state["front_end.subsampling.out.weight"].shape[1] // state["front_end.subsampling.conv3.weight"].shape[0]
    fitting = [n for n in range(7, 400) if ((n - 1) // 2 - 1) // 2 == bins]
    if given is not None and given not in fitting:
        raise ValueError(f"feature_dim: given as {given}, but the front end takes {' or '.join(map(str, fitting))}")
    return given or (80 if 80 in fitting else fitting[0])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, help="icefall checkpoints; several are averaged")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--bpe-model", type=Path, help="icefall's bpe.model, for decoding to text")
    parser.add_argument("--use-averaged-model", action="store_true",
                        help="the running average of one checkpoint, or between two, the earlier one first")
    parser.add_argument("--decoder-start", choices=("blank", "nothing"), default="blank",
                        help="what a search puts before the transducer's first token; icefall's own put blanks there once, and put nothing "
                             "today, as in training")
    names = [*_STACK_KWARGS, *_OTHER_KWARGS]
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", help="as in icefall; needed where shapes do not tell")
    options = parser.parse_args(argv)
    kwargs = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    for name in kwargs:
        if name == "causal":
            kwargs[name] = str(kwargs[name]).lower() in ("1", "true", "yes", "t", "y")
        elif name in _OTHER_KWARGS and name not in _CHUNKS:
            kwargs[name] = float(kwargs[name]) if name in ("dropout", "warmup_batches") else int(kwargs[name])
    notices: list[str] = []
    try:
        read = read_running_average if options.use_averaged_model else read_checkpoints
        state = read(options.checkpoints)
        config, ours = import_state_dict(state, kwargs, notices=notices)
        mel_bins = feature_dim(ours, kwargs.get("feature_dim"))
        write_checkpoint(options.out, config, ours, mel_bins, ", ".join(p.name for p in options.checkpoints), options.bpe_model, notices,
                         options.decoder_start)
    except ValueError as error:
        print(f"import_icefall: {error}", file=sys.stderr)
        return 1
    for notice in notices:
        print(notice)
    print(f"{options.out}: {sum(v.numel() for v in ours.values())} parameters, {mel_bins} mel bins, "
          f"{'causal' if config.causal else 'not causal'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
