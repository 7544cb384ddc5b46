"""A checkpoint → the files that sherpa-onnx loads: model.onnx with its metadata, and tokens.txt.

sherpa-onnx (Apache-2.0) runs them on Android, iOS, in browsers (WebAssembly), from C#, Unity and Unreal. Its streaming "zipformer2 CTC"
model takes one chunk of features and the encoder's state, its offline "zipformer CTC" model whole utterances; both are CTC over fbank.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxkit import __version__
from voxkit.checkpoint.loading import Loaded
from voxkit.encoders.front_end import PretrainedFrontEnd
from voxkit.export.encoder import MIN_FEATURES, OfflineEncoder, StreamingEncoder, has_ctc, longest_input
from voxkit.export.graphs import check_exportable, prepared
from voxkit.export.quantize import quantize_int8
from voxkit.export.shrink import store
from voxkit.export.trace import Graph, Port, trace
from voxkit.files import write_text
from voxkit.infer.chunks import Chunk, chunk_of
from voxkit.models.voxformer import VoxFormer
from voxkit.optional import require
from voxkit.runtime.session import open_session
from voxkit.text.vocabulary import Vocabulary

BINS = 80  # its streaming models have a state made for them
MARK = ".sherpa-onnx"  # what tells a directory of ours from others; it holds voxkit's version and the precision


@dataclass(frozen=True)
class SherpaExport:
    """What was written: the folder, and by how much the graph's log-probabilities are off the model's at most (fp32, nats)."""

    folder: Path
    difference: float


class _Offline(OfflineEncoder):
    """x [N, T, F], x_lens [N] → log_probs [N, T', V], log_probs_len [N]."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, "features")

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        _, log_probs, frames = super().forward(x, x_lens)
        return log_probs, frames


class SherpaChunk(StreamingEncoder):
    """x [N, 2 · chunk + 13, F] and the state as sherpa-onnx keeps it → log_probs [N, T', V] and the state after it.

    It keeps keys and values time first, gated frames behind a dimension of one, then what the convolutions saw; at the end the front end's
    three frames, and how many frames there were.
    """

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        states, *after = self.advance(x, *state)
        return self.model.ctc_log_probs(states), *after

    def advance(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The encoder's states [N, T', D], and the state after it."""
        model = self.model
        self.chunk.set(model)
        vectors, front = model.front_end.subsampling.stream(x, (state[-2],))
        own = [_ours(i % 6, tensor) for i, tensor in enumerate(state[:-2])]
        between = partial(model._between, [])
        states, after = model.encoder.stream(between(0, vectors), (state[-1], *own), between)
        return states, *(_theirs(i % 6, tensor) for i, tensor in enumerate(after[1:])), front[0], after[0]

    def initial(self) -> list[tuple[str, Tensor]]:
        """The state's tensors before the first chunk, by sherpa-onnx's names."""
        state = self.init_state(1)
        layers = [value for name, value in state.items() if name not in ("front", "done")]
        names = ("cached_key", "cached_nonlin_attn", "cached_val1", "cached_val2", "cached_conv1", "cached_conv2")
        return [*((f"{names[i % 6]}_{i // 6}", _theirs(i % 6, value)) for i, value in enumerate(layers)),
                ("embed_states", state["front"]), ("processed_lens", state["done"])]


def _theirs(part: int, x: Tensor) -> Tensor:
    return x[None] if part == 1 else x if part > 3 else x.transpose(0, 1)


def _ours(part: int, x: Tensor) -> Tensor:
    return x[0] if part == 1 else x if part > 3 else x.transpose(0, 1)


Files = Sequence[tuple[Graph, dict[str, str]]]  # what sherpa-onnx calls each by its name, with the metadata that it reads out of it


def export_sherpa(loaded: Loaded, out: Path, *, streaming: bool = False, chunk_ms: float | None = None, left_ms: float | None = None,
                  int8: bool = False, tolerance: float = 1e-3) -> SherpaExport:
    """Write the files of a CTC model, once the graph gives the model's scores.

    Args:
        loaded: a VoxFormer on fbank with a CTC head, on the CPU; its model is left in float32.
        out: the directory; replaced where it was one of these.
        streaming, chunk_ms, left_ms: as of `voxkit export`. int8: of the matrices.
        tolerance: by which log-probabilities above -10 nats may differ, before INT8.

    Raises:
        ValueError: a model that sherpa-onnx has no type for, a graph with other scores, an `out` that is something else; MissingPackage.
    """
    def files(model: Any, chunk: Chunk | None) -> Files:
        if not has_ctc(model):
            raise ValueError(f"{loaded.path}: the model has no CTC head")
        graph = chunk_graph(model, chunk) if chunk is not None else _offline_graph(model)
        return [(graph, sherpa_metadata(model, graph))]

    return write_sherpa(loaded, out, files, _readme(Path(out).name, streaming), streaming=streaming, chunk_ms=chunk_ms, left_ms=left_ms,
                        int8=int8, tolerance=tolerance)


def write_sherpa(loaded: Loaded, out: Path, files: Callable[[Any, Chunk | None], Files], readme: str, *, streaming: bool,
                 chunk_ms: float | None, left_ms: float | None, int8: bool, tolerance: float) -> SherpaExport:
    """Write the graphs that `files` makes of model and chunk, tokens.txt and a README, in one move (`export_sherpa`, whose arguments and
    errors these are)."""
    model, where = loaded.model, str(loaded.path)
    check_exportable(loaded.setup.config.system, model, where, streaming)
    if not isinstance(model, VoxFormer) or isinstance(model.front_end, PretrainedFrontEnd) or model.front_end.fbank.num_bins != BINS:
        raise ValueError(f"{where}: sherpa-onnx has types for a VoxFormer on fbank of {BINS} bins (model.front_end.kind=fbank), and this "
                         "is none; export it with --format onnx")
    out = Path(out)
    if out.exists() and not (out / MARK).is_file():
        raise ValueError(f"{out} is there and no sherpa-onnx export; choose another directory, or remove it")
    onnx = require("onnx", "export", why="voxkit export")
    model, part = prepared(model), out.with_name(f".tmp-{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    before, difference = (model.encoder.chunk, model.encoder.left_context), 0.0
    try:
        for graph, about in files(model, chunk_of(model, chunk_ms, left_ms) if streaming else None):
            path = part / f"{graph.name}.onnx"
            trace(graph, path)
            difference = max(difference, score_difference(graph, path))
            if not difference <= tolerance:
                raise ValueError(f"{graph.name}: the graph's scores differ from the model's by {difference:.2e}, above --tolerance "
                                 f"{tolerance:g}")
            proto = onnx.load(path)
            if int8:
                proto, _ = quantize_int8(proto, [graph.feed])
                store(proto, "int8")
            onnx.helper.set_model_props(proto, about)
            onnx.save(proto, path)
        write_text(part / "tokens.txt", tokens_file(loaded.vocabulary))
        write_text(part / "README.md", readme)
        write_text(part / MARK, f"{__version__} {'int8' if int8 else 'fp32'}\n")
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        model.encoder.chunk, model.encoder.left_context = before
        shutil.rmtree(part, ignore_errors=True)
    return SherpaExport(out, difference)


def _offline_graph(model: Any) -> Graph:
    x, lengths = torch.randn(2, 333, BINS), torch.tensor([333, 222])
    return Graph("model", _Offline(model), [Port("x", x, ("N", "T", None)), Port("x_lens", lengths, ("N",))],
                 [Port("log_probs", axes=("N", "T2", None)), Port("log_probs_len", axes=("N",))],
                 {"N": (1, 1024), "T": (MIN_FEATURES, longest_input(model))})


def chunk_graph(model: Any, chunk: Chunk, name: str = "model", kind: type[SherpaChunk] = SherpaChunk, output: str = "log_probs") -> Graph:
    """One chunk with its state; `output`: what the first output is called."""
    module = kind(model, chunk)
    state = module.initial()
    batch = [0 if name.startswith(("cached_conv", "embed", "processed")) else 1 for name, _ in state]
    axes = [tuple("N" if i == place else None for i in range(value.ndim)) for place, (_, value) in zip(batch, state)]
    two = [torch.cat([value, value + (chunk.frames if value.dtype == torch.int64 else 0.1)], dim=place)
           for place, (_, value) in zip(batch, state)]
    return Graph(name, module, [Port("x", torch.randn(2, module.features, BINS), ("N", None, None)),
                                   *(Port(name, value, a) for (name, _), value, a in zip(state, two, axes))],
                 [Port(output, axes=("N", None, None)), *(Port(f"new_{name}", axes=a) for (name, _), a in zip(state, axes))],
                 {"N": (1, 1024)})


def score_difference(graph: Graph, path: Path) -> float:
    """Of likely log-probabilities, on what the graph was traced with."""
    with torch.inference_mode():
        expected = graph.module(*graph.examples)
    found = open_session(path, threads=1).run(None, graph.feed)
    one, other = expected[0].numpy(), found[0]
    lengths = expected[1].tolist() if len(expected) == 2 else [one.shape[1]] * len(one)
    away = [np.abs(np.where(a[:n] > -10, a[:n] - b[:n], 0.0)).max(initial=0.0) for a, b, n in zip(one, other, lengths)]
    return float(max(away)) if np.isfinite(other).all() else float("inf")


def sherpa_metadata(model: Any, graph: Graph, kind: str = "CTC") -> dict[str, str]:
    """What sherpa-onnx reads out of the file."""
    about = {"model_type": "zipformer2_ctc", "version": "1", "model_author": "voxkit", "comment": f"voxkit {__version__}, "}
    if not isinstance(graph.module, SherpaChunk):
        return {**about, "comment": about["comment"] + f"offline {kind}"}
    module, config = graph.module, model.encoder.config
    options = [config.stack(i) for i in range(config.num_stacks)]
    chunk, left = model.encoder._streaming_chunk()

    def each(values: Sequence[int]) -> str:
        return ",".join(map(str, values))

    return {**about, "model_type": "zipformer2", "comment": about["comment"] + f"streaming {kind}", "T": str(module.features),
            "decode_chunk_len": str(2 * chunk), "num_encoder_layers": each([o["num_layers"] for o in options]),
            "encoder_dims": each([o["encoder_dim"] for o in options]), "cnn_module_kernels": each([o["kernel"] for o in options]),
            "left_context_len": each([left // factor for factor in config.downsampling_factor]),
            "query_head_dims": each([o["query_head_dim"] for o in options]),
            "value_head_dims": each([o["value_head_dim"] for o in options]), "num_heads": each([o["num_heads"] for o in options])}


def tokens_file(vocabulary: Vocabulary) -> str:
    """tokens.txt: a token and its id a line.

    Raises:
        ValueError: a vocabulary whose blank is not 0.
    """
    if vocabulary.blank != 0:
        raise ValueError(f"sherpa-onnx takes token 0 for CTC's blank, and here it is {vocabulary.blank}")
    return "".join(f"{'<blk>' if i == 0 else piece} {i}\n" for i, piece in enumerate(vocabulary.pieces))


def _readme(name: str, streaming: bool) -> str:
    kind = "--zipformer2-ctc-model=" if streaming else "--zipformer-ctc-model="
    program = "sherpa-onnx" if streaming else "sherpa-onnx-offline"
    call = "OnlineRecognizer.from_zipformer2_ctc" if streaming else "OfflineRecognizer.from_zipformer_ctc"
    return f"""# {name}

For sherpa-onnx (`pip install sherpa-onnx sherpa-onnx-core`, https://k2-fsa.github.io/sherpa/onnx/), on Android, iOS, WebAssembly, C#,
Unity, Unreal and the rest of its platforms:

    {program} --tokens=tokens.txt {kind}model.onnx audio.wav

    sherpa_onnx.{call}(model="model.onnx", tokens="tokens.txt")
"""
