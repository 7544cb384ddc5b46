"""The graphs of an encoder with its CTC head: whole utterances, and one chunk of a stream."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.batch import Batch, Padded
from voxkit.encoders.front_end import PretrainedFrontEnd
from voxkit.export.trace import Graph, Port
from voxkit.infer.chunks import Chunk
from voxkit.models.front_end_listener import FrontEndListener
from voxkit.rate import RATE

MIN_SAMPLES, MIN_FEATURES = 16000, 64  # a graph's least width: shorter input is padded, and its length says where it ends
MAX_SECONDS = 60.0  # of encoders that set no limit of their own; attention grows with the square
_HOP = 320  # samples per frame of every pretrained encoder


class OfflineEncoder(nn.Module):
    """Audio [B, S] at 16 kHz or features [B, T, F], lengths [B] int64 → states [B, T', D], CTC log_probs [B, T', V] if there is a head,
    frames [B] int64."""

    def __init__(self, model: Any, takes: str) -> None:
        super().__init__()
        self.model, self.takes = model, takes

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        states, frames = self.model.encode(_batch(self.takes, values, lengths))[:2]
        return (states, self.model.ctc_log_probs(states), frames) if has_ctc(self.model) else (states, frames)


class StreamingEncoder(nn.Module):
    """One chunk of a causal model on fbank: features [B, 2 · chunk + 13, F], lengths [B] of them, the state's tensors → states [B, T', D],
    CTC log_probs [B, T', V], frames [B], the state's tensors after it.

    A stream goes on 2 · chunk features later. One that ends within the chunk has fewer features than all; what comes out of its first
    `frames` is what a shorter last chunk gives.
    """

    def __init__(self, model: Any, chunk: Chunk) -> None:
        super().__init__()
        self.model, self.chunk = model, chunk

    @property
    def features(self) -> int:
        """Feature frames of one chunk, those looked ahead at included."""
        return 2 * self.chunk.frames + self.model.front_end.subsampling.lookahead

    def init_state(self, size: int = 1) -> dict[str, Tensor]:
        """The tensors before the first chunk, by name."""
        self.chunk.set(self.model)
        encoder = self.model.encoder
        names = ["done"] + [f"stack{i}.layer{j}.{part}" for i, stack in enumerate(encoder.stacks) for j in range(len(stack.layers))
                            for part in ("keys", "gated", "values1", "values2", "conv1", "conv2")]
        front = self.model.front_end.subsampling.init_state(size)
        return {"front": front[0], **dict(zip(names, encoder.init_state(size), strict=True))}

    def forward(self, features: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        self.chunk.set(model)
        x, front = model.front_end.subsampling.stream(features, state[:1], lengths=lengths)
        vectors = model.front_end.subsampling.output_lengths(lengths).clamp(0, self.chunk.frames)
        between = partial(model._between, [])
        states, encoder = model.encoder.stream(between(0, x), state[1:], between, vectors)
        return states, model.ctc_log_probs(states), model.encoder.output_lengths(vectors), *front, *encoder


def offline_graph(model: Any) -> Graph:
    """The encoder of a model in eval mode, float32, for whole utterances."""
    takes = input_of(model)
    longest = longest_input(model)
    positions = getattr(model.encoder, "positions", None)
    if positions is not None and hasattr(positions, "table"):
        positions(longest // (_HOP if takes == "audio" else 2) + 1)  # fills its table: a graph cannot let it grow
    if takes == "audio":
        least, values, width = MIN_SAMPLES, 0.1 * torch.randn(2, 3 * MIN_SAMPLES + 77), "samples"
    else:
        least, values, width = MIN_FEATURES, torch.randn(2, 333, model.front_end.fbank.num_bins), "features"
    axes = ("batch", width, *(None,) * (values.ndim - 2))
    lengths = torch.tensor([values.shape[1], values.shape[1] * 2 // 3])
    head = [Port("log_probs", axes=("batch", "frames", None))] if has_ctc(model) else []
    return Graph("encoder", OfflineEncoder(model, takes), [Port(takes, values, axes), Port("lengths", lengths, ("batch",))],
                 [Port("states", axes=("batch", "frames", None)), *head, Port("frames", axes=("batch",))],
                 {"batch": (1, 1024), width: (least, longest)})


def streaming_graph(model: Any, chunk: Chunk) -> Graph:
    """The encoder of a causal model on fbank in eval mode, float32, for one chunk of a stream."""
    module = StreamingEncoder(model, chunk)
    state = module.init_state(2)
    state["done"] += torch.tensor([0, chunk.frames])
    features = torch.randn(2, module.features, model.front_end.fbank.num_bins)
    open_batch = {name: ("batch", *(None,) * (value.ndim - 1)) for name, value in state.items()}
    inputs = [Port("features", features, ("batch", None, None)), Port("lengths", torch.tensor([module.features, 41]), ("batch",))]
    outputs = [Port("states", axes=("batch", None, None)), Port("log_probs", axes=("batch", None, None)), Port("frames", axes=("batch",))]
    return Graph("encoder", module, [*inputs, *(Port(name, value, open_batch[name]) for name, value in state.items())],
                 [*outputs, *(Port(f"next.{name}", axes=open_batch[name]) for name in state)], {"batch": (1, 1024)})


def input_of(model: Any) -> str:
    """What the encoder's graph takes: `audio` where a pretrained encoder reads it, `features` where fbank does, which stays outside."""
    return "features" if isinstance(model, FrontEndListener) and not isinstance(model.front_end, PretrainedFrontEnd) else "audio"


def longest_input(model: Any) -> int:
    """The longest utterance, in samples or features: a pretrained encoder's own limit, else MAX_SECONDS."""
    most = MAX_SECONDS if model.max_seconds is None else model.max_seconds
    return int(most * (100 if input_of(model) == "features" else RATE))


def has_ctc(model: Any) -> bool:
    """Whether the model has a CTC head."""
    return model.heads.ctc is not None


def _batch(takes: str, values: Tensor, lengths: Tensor) -> Batch:
    given = Padded(values, lengths)
    return Batch(ids=[""], audio=given) if takes == "audio" else Batch(ids=[""], features=given)
