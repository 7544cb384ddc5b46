"""Which graphs a model is exported as: its encoder, whole or by chunks, and those of the heads that it has."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from voxkit.export.decoder import decoder_graphs
from voxkit.export.encoder import has_ctc, input_of, longest_input, offline_graph, streaming_graph
from voxkit.export.parallel import parallel_graphs
from voxkit.export.trace import Graph
from voxkit.infer.chunks import Chunk
from voxkit.models.paraformer import Paraformer
from voxkit.models.voxformer import VoxFormer


def prepared(model: nn.Module) -> nn.Module:
    """The model in eval mode, where balancers, whiteners, masks and dropout do nothing, and in float32: a frozen encoder that trained under
    autocast to bfloat16 is exported, and compared, in full precision. Changed in place."""
    pretrained = getattr(getattr(model, "front_end", None), "pretrained", None)
    if pretrained is not None:
        pretrained.config.dtype = "float32"
    return model.float().eval()


def check_exportable(model: Any, where: str, streaming: bool) -> None:
    """
    Raises:
        ValueError: a system that has no graphs, or a model that does not stream where streaming is asked for.
    """
    if not isinstance(model, (VoxFormer, Paraformer)):
        raise ValueError(f"{where}: a {type(model).__name__} is not exported; VoxFormer and Paraformer are")
    if not streaming:
        return
    if isinstance(model, Paraformer):
        raise ValueError(f"{where}: a Paraformer does not stream: its decoder takes the whole utterance; leave --streaming out")
    if reason := model.not_streaming():
        raise ValueError(f"{where}: {reason}")


def graphs_of(model: Any, chunk: Chunk | None = None, *, decoder: bool = True) -> list[Graph]:
    """The graphs of a `prepared` model, the encoder first.

    Args:
        chunk: of a stream; None = whole utterances.
        decoder: the attention decoder too, where there is one; a stream has no use for it.
    """
    if chunk is not None:
        return [streaming_graph(model, chunk)]
    graphs = [offline_graph(model)]
    if isinstance(model, Paraformer):
        return graphs + parallel_graphs(model)
    if decoder and model.decoder is not None:
        graphs += decoder_graphs(model.decoder, model.encoder.output_dim)
    return graphs


def describe(model: Any, graphs: list[Graph], chunk: Chunk | None) -> dict[str, Any]:
    """What the runtime has to know of the graphs, for meta.json."""
    names = [graph.name for graph in graphs]
    takes = input_of(model)
    heads = ["ctc"] * has_ctc(model) + ["attention"] * ("decoder" in names) + ["parallel"] * ("parallel" in names)
    least = dict(graphs[0].ranges).get("samples" if takes == "audio" else "features", (1, 0))[0]
    out: dict[str, Any] = {"input": takes, "heads": heads, "seconds_per_frame": model.seconds_per_frame,
                           "least_input": least, "longest_input": longest_input(model), "graphs": {name: f"{name}.onnx" for name in names}}
    if takes == "features":
        fbank = model.front_end.fbank
        out["fbank"] = {"num_bins": fbank.num_bins, "low_freq": fbank.low_freq, "high_freq": fbank.high_freq}
    if chunk is not None:
        module = graphs[0].module
        out["streaming"] = {"chunk_ms": chunk.frames * chunk.ms, "left_ms": chunk.left * chunk.ms, "features": module.features,
                            "hop": 2 * chunk.frames, "states": len(graphs[0].inputs) - 2,
                            "state_bytes": sum(value.numel() * value.element_size() for value in module.init_state().values())}
    return out


def exact_names(graph: Graph) -> set[str]:
    """Constants that keep their precision whatever the others are stored in: buffers, such as window, Fourier basis and filterbank."""
    return {name for name, value in graph.module.named_buffers() if value.dtype == torch.float32}
