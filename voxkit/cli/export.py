"""`voxkit export`: a checkpoint → an artifact that runs without torch, published only if it gives the model's scores and text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HELP = "a checkpoint → ONNX files that run without torch, checked against it"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("export", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("--out", required=True, type=Path, help="the artifact's directory")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32",
                        help="fp32 (default); fp16: weights stored so, half the size; int8: a quarter of the size, and faster")
    parser.add_argument("--int8-bits", type=int, choices=(7, 8), default=7,
                        help="of INT8 weights: 7 overflow on no CPU (default); 8 are finer, and overflow on an x86 without VNNI")
    parser.add_argument("--streaming", action="store_true", help="an encoder that takes audio chunk by chunk, of a causal model")
    parser.add_argument("--chunk-ms", type=float, help="of --streaming: milliseconds of a chunk, e.g. 160 or 320; it is baked in")
    parser.add_argument("--left-ms", type=float, help="of --streaming: milliseconds that are seen before a chunk")
    parser.add_argument("--decoder", action=argparse.BooleanOptionalAction, default=True, help="the attention decoder too, if there is one")
    parser.add_argument("--format", choices=("onnx", "ort", "tensorrt", "sherpa-onnx"), default="onnx",
                        help="ort: what onnxruntime's mobile builds load; tensorrt: engines of the ONNX files, beside them; sherpa-onnx: "
                             "what its runtimes load on phones, in browsers and in games")
    parser.add_argument("--head", choices=("ctc", "transducer"),
                        help="of --format sherpa-onnx: what its files hold (default: ctc, where the model has it)")
    parser.add_argument("--check", nargs="+", metavar="SET", default=[],
                        help="prepared sets to compare on; none: noise, scores only, and the card says that no text was verified")
    parser.add_argument("--data-dir", help="where they are; by default as in training")
    parser.add_argument("--utterances", type=int, help="so many of them at most, spread over the sets (default: all)")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of log-probabilities in fp32 (default: 0.001)")
    parser.add_argument("--max-wer-increase", type=float, default=0.5, help="of fp16 and int8, absolute, in percent (default: 0.5)")
    parser.add_argument("--normalize", help="text rule before word error rates; by default the configuration's decode.normalize")
    parser.add_argument("--threads", type=int, default=1, help="of each engine while speeds are compared (default: 1)")
    parser.add_argument("--license", action="append", default=[], metavar="TEXT", help="of the training data, for the card; repeatable")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.export.package import ExportOptions, export_checkpoint
    from voxkit.export.parity import GateOptions
    from voxkit.export.speech import read_utterances
    from voxkit.export.tensorrt import build_engines, why_not
    from voxkit.infer.checkpoint import load_checkpoint

    loaded = load_checkpoint(args.checkpoint, "cpu", args.overrides)
    if args.head and args.format != "sherpa-onnx":
        raise ValueError("--head is of --format sherpa-onnx; an artifact holds all heads")
    if args.format == "sherpa-onnx":
        return _for_sherpa(args, loaded)
    data_dir = args.data_dir or loaded.setup.config.data.data_dir
    heard = read_utterances(data_dir, args.check, args.utterances) if args.check else []
    options = ExportOptions(
        args.precision, args.int8_bits, args.streaming, args.chunk_ms, args.left_ms, args.decoder,
        "onnx" if args.format == "tensorrt" else args.format, args.license,
        GateOptions(args.tolerance, args.max_wer_increase / 100, args.threads, args.normalize))
    target, report = export_checkpoint(loaded, args.out, heard, options, checked=args.check)
    on = f"{report.utterances} utterances of {', '.join(args.check)}" if heard else "noise; text not verified (give --check SET)"
    print(format_table(report.rows(), title=f"{loaded.path} on {on}, {report.seconds:.0f} s, {report.threads} thread(s)"))
    if len(heard) > report.utterances:
        print(f"left out, longer than the model takes: {len(heard) - report.utterances} of {len(heard)} utterances")
    if report.problems:
        print("\n".join(["voxkit export: the gate failed:", *(f"  {problem}" for problem in report.problems), f"  files: {target}"]),
              file=sys.stderr)
        return 1
    if args.format == "tensorrt":
        if reason := why_not():
            print(f"TensorRT: skipped, since {reason}")
        else:
            print("\n".join(f"engine: {engine}" for engine in build_engines(target)))
    if getattr(loaded.model.heads, "llm", None) is not None:
        from voxkit.export.llm import export_llm

        print(f"language model: {export_llm(loaded.model, Path(target))}")
    print(f"exported: {target}")
    return 0


def _for_sherpa(args: argparse.Namespace, loaded: Any) -> int:
    from voxkit.export.sherpa import export_sherpa
    from voxkit.export.sherpa_transducer import export_sherpa_transducer

    if args.precision == "fp16" or args.check:
        raise ValueError("--format sherpa-onnx is written in fp32 or int8 and compared by its scores: omit --precision fp16 and --check")
    heads = loaded.model.heads
    head = args.head or ("transducer" if heads.ctc is None and heads.transducer is not None else "ctc")
    found = (export_sherpa_transducer if head == "transducer" else export_sherpa)(
        loaded, args.out, streaming=args.streaming, chunk_ms=args.chunk_ms, left_ms=args.left_ms,
        int8=args.precision == "int8", tolerance=args.tolerance)
    print(f"scores differ from the model's by {found.difference:.1e} at most (fp32)\nexported: {found.folder}")
    return 0
