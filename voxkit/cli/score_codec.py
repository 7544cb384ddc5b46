"""`voxkit score-codec`: PESQ, STOI and more of coded and decoded speech, beside k-means books and Griffin-Lim at the same rate."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "how good a codec is, beside one that needs no training"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("score-codec", help=HELP, description=__doc__)
    parser.add_argument("codec", help="a run or checkpoint of system codec, a folder with codec.json, or a pretrained codec")
    parser.add_argument("--sets", nargs="+", required=True, help="prepared sets, or paths of cuts")
    parser.add_argument("--data-dir", default="data", help="where they are")
    parser.add_argument("--utterances", type=int, default=2, help="of each speaker; 0: all (2)")
    parser.add_argument("--seconds", type=float, default=6.0, help="those nearest to this length (6)")
    parser.add_argument("--measures", nargs="+", default=["pesq", "stoi", "si_sdr", "mel"], metavar="NAME",
                        help="pesq, stoi, si_sdr, mel, speaker, dnsmos, distill_mos")
    parser.add_argument("--baseline", default="", metavar="SET", help="fit k-means books on this set and print them beside")
    parser.add_argument("--whisper", default="", metavar="NAME", help="word error rate of this Whisper on the decoded speech")
    parser.add_argument("--out", default="", metavar="JSON", help="also write the figures there")
    parser.add_argument("--audio", default="", metavar="FOLDER", help="write the decoded speech there")


def run(args: argparse.Namespace) -> int:
    from voxkit.eval.table import format_table
    from voxkit.experiments.score_codec import CodecJob, score_codec

    found = score_codec(CodecJob(args.codec, tuple(args.sets), args.data_dir, args.utterances, args.seconds, tuple(args.measures),
                                 args.baseline, whisper=args.whisper, out=args.out, audio=args.audio))
    rows = []
    for one in found:
        row = {"system": one.name, "kbit/s": _number(one.nominal, 2), "by entropy": _number(one.entropy, 2)}
        row |= {name: f"{mean:.3f} ({low:.3f}-{high:.3f})" for name, (mean, low, high) in one.means().items()}
        if one.words:
            row["WER"] = f"{100 * one.errors / one.words:.1f}"
        rows.append(row)
    speakers = len(set(found[0].speakers.values()))
    print(format_table(rows, title=f"{len(found[0].values)} utterances of {speakers} speakers; intervals over speakers"))
    for one in found:
        if one.perplexities:
            print(f"perplexity of the books, {one.name}: {' '.join(f'{p:.0f}' for p in one.perplexities)}")
    return 0


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
