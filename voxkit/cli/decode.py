"""`voxkit decode`: transcribe test sets with a checkpoint by one or more searches; for each the hypotheses (with word times and calibrated
confidences), the WER with its interval, speed, latency and memory, and a record from which one command repeats it."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "transcribe test sets with a checkpoint"
FORMATS = ("ctm", "srt", "vtt", "textgrid")


def add_parser(subparsers: Any) -> None:
    from voxkit.cli import search_options
    from voxkit.cli.again import add_again_argument

    parser = subparsers.add_parser("decode", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    add_again_argument(parser, "a decoding", "decode/SET_METHOD.json in a run")
    parser.add_argument("--sets", nargs="+", default=[], help="prepared sets (names, or paths of cuts)")
    parser.add_argument("--methods", nargs="+", default=[],
                        help="greedy, prefix_beam, rescoring; of an autoregressive decoder also attention, joint; of a parallel one "
                             "guided, beam, ctc_greedy; with k2: k2_ctc, k2_hlg, k2_nbest, k2_nbest_rescoring, k2_rescoring")
    search_options.add_search_arguments(parser)
    search_options.add_tuned_argument(parser)
    search_options.add_times_argument(parser)
    parser.add_argument("--words", action=argparse.BooleanOptionalAction, default=True,
                        help="word times and confidences in the JSON lines, and in the table how good they are")
    parser.add_argument("--formats", nargs="+", default=[], choices=FORMATS, help="write words in these formats too")
    parser.add_argument("--calibrate", metavar="SET", help="first fit confidences (and word times, where the set knows them) on this set; "
                                                           "kept for later calls")
    parser.add_argument("--calibrate-limit", type=int, default=0, metavar="N", help="only the first utterances of that set")
    parser.add_argument("--latency", type=int, default=0, metavar="N", help="measure latency on N utterances, one at a time")
    search_options.add_chunk_arguments(
        parser, "decode utterance by utterance, as it is spoken, by greedy and prefix_beam; how long after its end a word was said",
        "chunk of the encoder: without --stream the whole utterance is decoded with that chunk, to the same result in less time; "
        "-1: without bound")
    search_options.add_set_arguments(parser, "decode/ in the run")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli.again import refuse_besides, say_whether_same
    from voxkit.experiments.decode import decode, decode_again

    if args.again:
        refuse_besides(args, add_parser, "decode", ("device", "data_dir", "out"))
        known, found, differing = decode_again(args.again, device=args.device, data_dir=args.data_dir, out=args.out, say=print)
        _show([found])
        return say_whether_same(known, differing, f"WER {found.row['WER']}")
    if not args.checkpoint or not args.sets:
        raise ValueError("give a checkpoint and --sets, or --again with the record of a decoding")
    _show(decode(_job(args), print))
    return 0


def _job(args: argparse.Namespace) -> Any:
    from voxkit.cli.search_options import job_fields, search_settings
    from voxkit.experiments.decode import DecodeJob

    return DecodeJob(search=search_settings(args), **job_fields(
        args, "checkpoint", "sets", "methods", "words", "formats", "calibrate", "calibrate_limit", "latency", "stream", "chunk_ms",
        "left_ms", "data_dir", "normalize", "limit", "out", "device", "overrides"))


def _show(found: list[Any]) -> None:
    from voxkit.eval.table import format_table

    record = found[0].record
    print(format_table([decoding.row for decoding in found], title=record.inputs["weights"]["path"].rpartition("/")[0]))
    print(f"hypotheses, records and results.csv: {record.path.parent}")
