"""Which graphs a model is exported as: its encoder, whole or by chunks, and those of the heads that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from voxkit.decoders.whisper import WhisperDecoder
from voxkit.encoders.pretrained.encoder import pretrained_encoder
from voxkit.export.decoder import decoder_graphs
from voxkit.export.encoder import StreamingEncoder, has_ctc, input_of, longest_input, offline_graph, streaming_graph
from voxkit.export.parallel import parallel_graphs
from voxkit.export.trace import Graph
from voxkit.export.transducer import about_transducer, transducer_graphs
from voxkit.infer.chunks import Chunk
from voxkit.infer.streaming import check_model
from voxkit.system import SYSTEMS, find_system

Model = TypeVar("Model", bound=nn.Module)


def _decoder(model: Any) -> list[Graph]:
    decoder = model.heads.decoder
    if decoder is None:
        return []
    if isinstance(decoder, WhisperDecoder):
        return decoder_graphs(decoder, decoder.alignment_heads, decoder.positions.num_embeddings - 1)
    return decoder_graphs(decoder)


def _transducer(model: Any) -> list[Graph]:
    return transducer_graphs(model.heads.transducer) if model.heads.transducer is not None else []


def _parallel(model: Any) -> list[Graph]:
    return parallel_graphs(model) if model.heads.parallel is not None else []


# what System.graphs names → the graphs of a model that it stands for, none where the model lacks that head
GRAPHS: dict[str, Callable[[Any], list[Graph]]] = {
    "encoder": lambda model: [offline_graph(model)],
    "decoder": _decoder,
    "parallel": _parallel,
    "transducer": _transducer,
}


def prepared(model: Model) -> Model:
    """The model in eval mode, where balancers, whiteners, masks and dropout do nothing, and in float32: a frozen encoder that trained under
    autocast to bfloat16 is exported, and compared, in full precision. Changed in place."""
    pretrained = pretrained_encoder(model)
    if pretrained is not None:
        pretrained.config.dtype = "float32"
    return model.float().eval()


def check_exportable(system: str, model: Any, where: str, streaming: bool) -> None:
    """
    Raises:
        ValueError: a system that has no graphs, or a model that does not stream where streaming is asked for.
    """
    if not find_system(system).graphs:
        able = ", ".join(name for name in SYSTEMS if find_system(name).graphs)
        raise ValueError(f"{where}: the system {system} is not exported; {able} are")
    pretrained = pretrained_encoder(model)
    if pretrained is not None and pretrained.chunked is not None:
        raise ValueError(f"{where}: its pretrained encoder hears chunk by chunk (model.front_end.pretrained.chunk), which runs in torch "
                         "alone: `voxkit transcribe --stream`, `voxkit decode --stream`")
    if streaming:
        check_model(model)


def graphs_of(system: str, model: Any, chunk: Chunk | None = None, *, decoder: bool = True) -> list[Graph]:
    """The graphs of a `prepared` model, the encoder first.

    Args:
        chunk: of a stream; None = whole utterances.
        decoder: the attention decoder too, where there is one; a stream has no use for it.
    """
    if chunk is not None:
        return [streaming_graph(model, chunk)]
    return [graph for name in find_system(system).graphs if decoder or name != "decoder" for graph in GRAPHS[name](model)]


def describe(model: Any, graphs: list[Graph], chunk: Chunk | None) -> dict[str, Any]:
    """What the runtime has to know of the graphs, for meta.json."""
    names = [graph.name for graph in graphs]
    takes = input_of(model)
    heads = ["ctc"] * has_ctc(model) + ["attention"] * ("decoder" in names) + ["parallel"] * ("parallel" in names)
    heads += ["transducer"] * ("join" in names)
    least = dict(graphs[0].ranges).get("samples" if takes == "audio" else "features", (1, 0))[0]
    out: dict[str, Any] = {"input": takes, "heads": heads, "seconds_per_frame": model.seconds_per_frame,
                           "least_input": least, "longest_input": longest_input(model), "graphs": {name: f"{name}.onnx" for name in names}}
    decoder = model.heads.decoder
    if "decoder" in names:
        out["tokens"] = {"bos": decoder.bos, "eos": decoder.eos}
    if isinstance(decoder, WhisperDecoder) and "decoder" in names:
        silent = [row.nonzero()[:, 0].tolist() for row in decoder.silent]
        out["prompted"] = {"prompt": decoder.prompt, "silent_first": sorted(set(silent[0]) - set(silent[1])), "silent": silent[1],
                           "languages": decoder.tokens.languages, "most_tokens": decoder.most_tokens, "whole": decoder.whole,
                           "silence": decoder.silence}
    if "join" in names:
        out["transducer"] = about_transducer(model.heads.transducer)
    if takes == "features":
        fbank = model.front_end.fbank
        out["fbank"] = {"num_bins": fbank.num_bins, "low_freq": fbank.low_freq, "high_freq": fbank.high_freq}
    if chunk is not None:
        module = graphs[0].module
        assert isinstance(module, StreamingEncoder)
        out["streaming"] = {"chunk_ms": chunk.frames * chunk.ms, "left_ms": chunk.left * chunk.ms, "features": module.features,
                            "hop": 2 * chunk.frames, "states": len(graphs[0].inputs) - 2,
                            "state_bytes": sum(value.numel() * value.element_size() for value in module.init_state().values())}
    return out


def exact_names(graph: Graph) -> set[str]:
    """Constants that keep their precision whatever the others are stored in: buffers, such as window, Fourier basis and filterbank."""
    return {name for name, value in graph.module.named_buffers() if value.dtype == torch.float32}
