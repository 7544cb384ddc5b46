"""What training fits into the memory of some GPUs: seconds of audio per step, accumulation, checkpointing, chunk; from shapes alone.

Weights, gradients and Adam's averages are counted as float32 and shared out among the GPUs (fully sharded); one layer at a time is
gathered. What a layer keeps for its backward pass is not estimated: the layer runs on the meta device, and the tensors that
autograd saves are added up.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.encoders.lact import LaCTEncoder
from voxkit.models.front_end_listener import FrontEndListener

CHUNKS = (32, 64, 128, 256, 512)
_RESERVE = 0.9  # of the memory: the rest is the CUDA context and what the allocator cannot use
_SECONDS = 10.0  # of an utterance
_OTHER = 1.3  # front end, decoder and heads, in shares of the encoder's activations


@dataclass(frozen=True)
class Plan:
    """Attributes:
    chunk: frames between two steps of the fast weights (0: none).
    checkpointing: whether layers are recomputed in the backward pass.
    weights: bytes of each GPU for weights, gradients and averages.
    per_second: bytes of activations for a second of audio.
    seconds: of audio that fit on each GPU at a time; 0: not even one utterance.
    accumulate: batches per step, for `target` seconds in all.
    """

    chunk: int
    checkpointing: bool
    weights: float
    per_second: float
    seconds: float
    accumulate: int


def parse_memory(text: str) -> float:
    """ "24GB" → bytes.

    Raises:
        ValueError: not a number of GB, GiB, MB or MiB.
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([GM])(i?)B\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"memory {text!r}: write it as 24GB or 24GiB")
    base = 1024 if match.group(3) else 1000
    return float(match.group(1)) * base ** (3 if match.group(2).upper() == "G" else 2)


def plans(model: FrontEndListener, memory: float, gpus: int = 1, target: float = 600.0, half: bool = True) -> list[Plan]:
    """What fits, for each chunk and with checkpointing or without; `best` chooses.

    Args:
        model: on the meta device or not; nothing of it is computed.
        memory: bytes of a GPU.
        target: seconds of audio per step, of all GPUs.
        half: activations in half precision (but for the fast weights, which are float32 always).

    Raises:
        ValueError: an encoder that is not made of layers of one kind.
    """
    if not hasattr(model, "encoder") or not hasattr(model.encoder, "layers"):
        raise ValueError("--memory: this system has no encoder made of like layers; lact_asr and recognizers with a transformer have")
    encoder, frame = model.encoder, model.front_end.seconds_per_frame
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in model.parameters()) - learning
    largest = max(sum(p.numel() for p in layer.parameters()) for layer in encoder.layers)
    weights = (16 * learning + 4 * fixed) / gpus + 2 * (2 if half else 4) * largest
    frames, found = round(_SECONDS / frame), []
    chunks = CHUNKS if isinstance(encoder, LaCTEncoder) and encoder.carries else (0,)
    for chunk in chunks:
        kept = [saved_bytes(layer, frames, encoder.output_dim, chunk, half) for layer in encoder.layers]
        through = frames * encoder.output_dim * (2 if half else 4)
        for checkpointing in (False, True):
            activations = len(kept) * through + max(kept) if checkpointing else sum(kept)
            per_second = _OTHER * activations / _SECONDS
            room = _RESERVE * memory - weights
            seconds = room / per_second if room >= per_second * _SECONDS else 0.0
            accumulate = max(1, math.ceil(target / (seconds * gpus))) if seconds else 0
            found.append(Plan(chunk, checkpointing, weights, per_second, seconds, accumulate))
    return found


def best(found: list[Plan], chunk: int, target: float, gpus: int = 1) -> Plan | None:
    """The plan to take: the configured chunk where it fits, else the nearest larger one; without checkpointing where at least a quarter of
    `target` fits at a time. None: nothing fits."""
    fitting = [plan for plan in found if plan.seconds > 0]
    if not fitting:
        return None
    size = min({plan.chunk for plan in fitting}, key=lambda c: (c < chunk, abs(c - chunk)))
    here = [plan for plan in fitting if plan.chunk == size]
    plain = [plan for plan in here if not plan.checkpointing and plan.seconds * gpus >= target / 4]
    return plain[0] if plain else max(here, key=lambda plan: plan.seconds)


def saved_bytes(layer: nn.Module, frames: int, dim: int, chunk: int = 0, half: bool = True) -> float:
    """Bytes that autograd keeps of one layer for an utterance of so many frames."""
    dtype = torch.bfloat16 if half else torch.float32
    seen: dict[int, Tensor] = {}
    own = {id(p) for p in layer.parameters()}

    def note(x: Tensor) -> Tensor:
        base = x if x._base is None else x._base
        if id(base) not in own:
            seen[id(base)] = base  # held, so that no other tensor gets its id
        return x

    was = _set_chunk(layer, chunk)
    layer = _meta(layer)
    own |= {id(p) for p in layer.parameters()}
    x = torch.empty(1, frames, dim, device="meta", requires_grad=True)
    lengths = torch.empty(1, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda y: y), torch.autocast("cpu", dtype=dtype, enabled=half):
        _call(layer, x, lengths, frames)
    _set_chunk(layer, was)
    # CPU autocast keeps to a list; what stays float32 there and would not on a GPU is counted as it is
    return float(sum(y.numel() * y.element_size() for y in seen.values()))


def _call(layer: nn.Module, x: Tensor, lengths: Tensor, frames: int) -> Any:
    if hasattr(layer, "initial"):
        return layer(x, lengths, layer.initial(1))
    return layer(x, torch.ones(1, frames, dtype=torch.bool, device="meta"))


def _set_chunk(layer: nn.Module, chunk: int) -> int:
    """Set the chunk of a layer's fast weights, if it has any → what it was."""
    fast = getattr(layer, "fast", None)
    if fast is None or not chunk:
        return chunk
    was = fast.options.chunk
    fast.options = replace(fast.options, chunk=chunk, keys=0)
    return was


def _meta(layer: nn.Module) -> nn.Module:
    """The layer, or a copy of its shape where it lies in memory."""
    if next(layer.parameters()).is_meta:
        return layer
    return copy.deepcopy(layer).to("meta")
