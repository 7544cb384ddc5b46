"""The graphs of a Paraformer behind its encoder.

    predictor.onnx  states [B, T, D], frames [B] → vectors [B, T, D], counts [B], times [B, T], weights [B, T]
    parallel.onnx   vectors [B, U, D], counts [B], states [B, T, D], frames [B] → log_probs [B, U, vocabulary]

A frame's weight is below one, so there are no more tokens than frames: the predictor has room for T, and who runs it cuts the vectors to
the largest count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from voxkit.export.trace import Graph, Port
from voxkit.ops.heard import HEARD


def cif_dense(frames: Tensor, weights: Tensor, tail: float) -> tuple[Tensor, Tensor, Tensor]:
    """Continuous integrate-and-fire as one matrix product, for graphs: what `voxkit.ops.cif.cif` gives for `fire_counts`.

    Frame t covers the running sums from c[t-1] to c[t], token u the stretch from u to u + 1; their overlap is the frame's share in the
    token. Time and memory grow with T · T, as attention's do.

    Args:
        frames: [B, T, D]; weights: [B, T] in [0, 1), 0 in padding; tail: see `fire_counts`.

    Returns:
        vectors [B, T, D], an unfinished last one scaled as if its weight were 1, counts [B] int64, times [B, T] in frames, where each
        token ends; zeros past the count.
    """
    length = weights.shape[1]
    ends = weights.double().cumsum(1)
    counts = (ends[:, -1] + tail + 1e-9).floor().long()
    token = torch.arange(length, device=weights.device, dtype=ends.dtype)
    wanted = token[None, :] < counts[:, None]
    share = (torch.minimum(ends[:, None], token[:, None] + 1) - torch.maximum(ends[:, None] - weights.double()[:, None], token[:, None]))
    share = (share.clamp(min=0.0) * wanted[..., None]).float()  # [B, token, frame]
    vectors = (share @ frames) / share.sum(2, keepdim=True).clamp(min=1e-3)
    frame = (ends[:, None] < token[:, None] + 1).long().sum(2)  # the one that each token ends in
    reached, frame = (frame < length) & wanted, frame.clamp(max=length - 1)
    times = frame + 1 - (ends.gather(1, frame) - (token + 1)) / weights.double().gather(1, frame).clamp(min=1e-12)
    places = torch.arange(1, length + 1, device=weights.device)
    last, end = ((((weights >= least) & (weights > 0)) * places).amax(1, keepdim=True) for least in (HEARD, 0.0))
    last = torch.where(last > 0, last, end).double()
    latest = torch.where(reached, times, 0.0).amax(1, keepdim=True)
    times = torch.where(reached, times, torch.maximum(last, latest)) * wanted
    return vectors, counts, times.float()


class Predictor(nn.Module):
    """See the module."""

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weights = self.predictor.frame_weights(states, frames)
        return *cif_dense(states, weights, self.predictor.config.tail), weights


class Parallel(nn.Module):
    """See the module."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, vectors: Tensor, counts: Tensor, states: Tensor, frames: Tensor) -> tuple[Tensor]:
        return (self.decoder(vectors, counts, states, frames).float().log_softmax(-1),)


def parallel_graphs(model: Any) -> list[Graph]:
    """Predictor and decoder of a Paraformer in eval mode, float32."""
    dim = model.encoder.output_dim
    states, frames = torch.randn(3, 37, dim), torch.tensor([37, 20, 9])
    ranges = {"batch": (1, 1024), "frames": (1, 100000), "tokens": (1, 100000)}
    of_states, of_batch = Port("states", states, ("batch", "frames", None)), ("batch",)
    vectors = Port("vectors", torch.randn(3, 11, dim), ("batch", "tokens", None))
    return [
        Graph("predictor", Predictor(model.predictor), [of_states, Port("frames", frames, of_batch)],
              [Port("vectors", axes=("batch", "frames", None)), Port("counts", axes=of_batch), Port("times", axes=("batch", "frames")),
               Port("weights", axes=("batch", "frames"))], ranges),
        Graph("parallel", Parallel(model.decoder), [vectors, Port("counts", torch.tensor([11, 5, 3]), of_batch), of_states,
                                                    Port("frames", frames, of_batch)],
              [Port("log_probs", axes=("batch", "tokens", None))], ranges)]
