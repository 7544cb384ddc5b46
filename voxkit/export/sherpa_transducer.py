"""A transducer as the three files that sherpa-onnx loads for one: encoder.onnx, decoder.onnx and joiner.onnx, with tokens.txt.

    encoder   features → encoder_out [N, T', J], projected for the joiner; of a stream also the state
    decoder   y [N, C], the last tokens, -1 where there was none → decoder_out [N, J]
    joiner    encoder_out [N, J], decoder_out [N, J] → logit [N, V]

The names and metadata are those of icefall's Zipformer transducers (egs/librispeech/ASR/zipformer/export-onnx.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxkit.checkpoint.loading import Loaded
from voxkit.export.encoder import MIN_FEATURES, OfflineEncoder, longest_input
from voxkit.export.sherpa import BINS, Files, SherpaChunk, SherpaExport, chunk_graph, sherpa_metadata, write_sherpa
from voxkit.export.trace import Graph, Port
from voxkit.infer.chunks import Chunk


class _Offline(OfflineEncoder):
    """x [N, T, F], x_lens [N] → encoder_out [N, T', J], encoder_out_lens [N]."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, "features")

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        states, *_, frames = super().forward(x, x_lens)
        return self.model.transducer.hear(states), frames


class _Chunk(SherpaChunk):
    """x [N, 2 · chunk + 13, F] and the state → encoder_out [N, T', J] and the state after it."""

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        states, *after = self.advance(x, *state)
        return self.model.transducer.hear(states), *after


class _Decoder(nn.Module):
    """y [N, C] → decoder_out [N, J]. sherpa-onnx begins with -1 and the blank; a model trained to begin with blanks alone gets them."""

    def __init__(self, transducer: Any) -> None:
        super().__init__()
        self.transducer = transducer

    def forward(self, y: Tensor) -> tuple[Tensor]:
        y = torch.where(y < 0, self.transducer.start, y)
        return (self.transducer.joiner.decoder_proj(self.transducer.decoder(y)[:, -1]),)


class _Joiner(nn.Module):
    """encoder_out [N, J], decoder_out [N, J] → logit [N, V]."""

    def __init__(self, transducer: Any) -> None:
        super().__init__()
        self.transducer = transducer

    def forward(self, encoder_out: Tensor, decoder_out: Tensor) -> tuple[Tensor]:
        return (self.transducer.joiner(encoder_out, decoder_out),)


def export_sherpa_transducer(loaded: Loaded, out: Path, *, streaming: bool = False, chunk_ms: float | None = None,
                             left_ms: float | None = None, int8: bool = False, tolerance: float = 1e-3) -> SherpaExport:
    """Write the files of a transducer, once each graph gives the model's scores; arguments and errors are those of `export_sherpa`.

    Raises:
        ValueError: also a model without a transducer.
    """
    def files(model: Any, chunk: Chunk | None) -> Files:
        if model.transducer is None:
            raise ValueError(f"{loaded.path}: the model has no transducer (model.loss.transducer is 0); export its CTC head: --head ctc")
        encoder = _offline_graph(model) if chunk is None else chunk_graph(model, chunk, "encoder", _Chunk, "encoder_out")
        return [(encoder, sherpa_metadata(model, encoder, "transducer") | {"model_type": "zipformer2"}), *_heads(model.transducer)]

    return write_sherpa(loaded, out, files, _readme(Path(out).name, streaming), streaming=streaming, chunk_ms=chunk_ms, left_ms=left_ms,
                        int8=int8, tolerance=tolerance)


def _offline_graph(model: Any) -> Graph:
    x, lengths = torch.randn(2, 333, BINS), torch.tensor([333, 222])
    return Graph("encoder", _Offline(model), [Port("x", x, ("N", "T", None)), Port("x_lens", lengths, ("N",))],
                 [Port("encoder_out", axes=("N", "T2", None)), Port("encoder_out_lens", axes=("N",))],
                 {"N": (1, 1024), "T": (MIN_FEATURES, longest_input(model))})


def _heads(transducer: Any) -> Files:
    context, size = transducer.decoder.context, transducer.joiner.output_linear.out_features
    width, row, ranges = transducer.joiner.output_linear.in_features, ("N", None), {"N": (1, 100000)}
    y = torch.randint(1, size, (5, context))
    y[0, :-1] = -1
    decoder = Graph("decoder", _Decoder(transducer), [Port("y", y, row)], [Port("decoder_out", axes=row)], ranges)
    joiner = Graph("joiner", _Joiner(transducer), [Port("encoder_out", torch.randn(5, width), row),
                                                   Port("decoder_out", torch.randn(5, width), row)], [Port("logit", axes=row)], ranges)
    return [(decoder, {"context_size": str(context), "vocab_size": str(size)}), (joiner, {"joiner_dim": str(width)})]


def _readme(name: str, streaming: bool) -> str:
    program = "sherpa-onnx" if streaming else "sherpa-onnx-offline"
    call = "OnlineRecognizer" if streaming else "OfflineRecognizer"
    return f"""# {name}

A transducer for sherpa-onnx (`pip install sherpa-onnx sherpa-onnx-core`, https://k2-fsa.github.io/sherpa/onnx/), on Android, iOS,
WebAssembly, C#, Unity, Unreal and the rest of its platforms:

    {program} --tokens=tokens.txt --encoder=encoder.onnx --decoder=decoder.onnx --joiner=joiner.onnx audio.wav

    sherpa_onnx.{call}.from_transducer(tokens="tokens.txt", encoder="encoder.onnx", decoder="decoder.onnx", joiner="joiner.onnx")

`--decoding-method=modified_beam_search` keeps several hypotheses, and takes hotwords.
"""
