"""`voxkit pseudo-label`: media without text → cuts with labels on which two recognizers agree, scores and a page to listen to; resumable.

    voxkit pseudo-label stream.mp4 --recognizers faster-whisper:small faster-whisper:tiny.en --pack my.yaml --out data
    voxkit pseudo-label clips/*.flac --whole --ref text.tsv --recognizers exp/whisper-base exp/whisper-tiny --out labels
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Register the command."""
    from voxkit.eval.agreement import Filter
    from voxkit.runtime.segments import SegmentOptions

    p = subparsers.add_parser("pseudo-label", help="labels on which two recognizers agree", description=__doc__,
                              formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("media", nargs="+", help="audio, or anything that ffmpeg reads")
    p.add_argument("--recognizers", nargs=2, required=True, metavar="NAME",
                   help="faster-whisper:SIZE, an address of a service (http://host:8000/v1#model), a checkpoint, a run, an export folder; "
                        "the first one's text is the label")
    p.add_argument("--out", required=True, help="folder; labels that are there are kept, and --out may be a data directory")
    p.add_argument("--split", default="pseudo", help="name of the set (default pseudo)")
    p.add_argument("--method", default="greedy", help="search of voxkit's own models (default greedy)")
    p.add_argument("--pack", help="what may be said: the prompt of models that take one, the phrases of those that do not")
    p.add_argument("--text", default="none", help="text rule of the pack's phrases: none, librispeech, lower (default none)")
    p.add_argument("--whole", action="store_true", help="every file is one utterance; else speech is found by silero's network")
    p.add_argument("--ref", metavar="FILE", help="with --whole: id<TAB>text by the files' stems, for the label WER of every threshold")
    p.add_argument("--license", default="", help="of the media; it is recorded with every cut")
    p.add_argument("--device", default="cpu")
    f = p.add_argument_group("what is kept (may be changed afterwards: what is labeled is not labeled again)")
    rule = Filter()
    f.add_argument("--agreement", type=float, default=rule.agreement, help=f"share of words both agree on (default {rule.agreement:g})")
    f.add_argument("--exact-below", type=int, default=rule.exact_below, metavar="N",
                   help=f"labels of fewer words must agree wholly (default {rule.exact_below})")
    f.add_argument("--min-confidence", type=float, default=rule.confidence, metavar="P",
                   help=f"of the first recognizer (default {rule.confidence:g})")
    f.add_argument("--max-compression", type=float, default=rule.compression, metavar="R",
                   help=f"of the text by zlib; more is a loop (default {rule.compression:g})")
    f.add_argument("--words-per-second", type=float, nargs=2, default=rule.words_per_second, metavar=("LOW", "HIGH"),
                   help="default %(default)s")
    f.add_argument("--language", default=rule.language, help="that must be heard, as the recognizers name it (en); default any")
    s = p.add_argument_group("where speech is")
    for name, what in (("threshold", "probability from which a frame is speech"), ("silence", "seconds that end a segment"),
                       ("longest", "seconds of a segment")):
        value = asdict(SegmentOptions())[name]
        s.add_argument(f"--{name}", type=float, default=value, help=f"{what} (default {value:g})")
    p.set_defaults(run=run)
    return p


def run(args: argparse.Namespace) -> int:
    """Label, and show what came of it."""
    from voxkit.eval.agreement import Filter
    from voxkit.eval.table import format_table
    from voxkit.experiments.pseudo_label import PseudoLabelJob, pseudo_label
    from voxkit.runtime.segments import SegmentOptions

    rule = Filter(args.agreement, args.exact_below, args.min_confidence, args.max_compression, tuple(args.words_per_second), args.language)
    segments = SegmentOptions(threshold=args.threshold, until=min(SegmentOptions().until, args.threshold), silence=args.silence,
                              longest=args.longest)
    job = PseudoLabelJob(tuple(args.media), args.out, tuple(args.recognizers), args.method, args.pack, args.text, args.whole, segments,
                         rule, args.split, args.ref, args.license, args.device)
    found = pseudo_label(job, lambda message: print(message, file=sys.stderr))
    total = len(found.kept) + len(found.left_out)
    hours = sum(segment.seconds for segment, _ in found.kept) / 3600
    print(f"{len(found.kept)} of {total} segments are kept, {hours:.2f} h")
    for reason, count in found.reasons.items():
        print(f"  left out: {reason}: {count}")
    print("\n" + format_table(found.table, title="what other thresholds keep"))
    print(f"\n{found.cuts}\nto listen to: {found.page}")
    return 1 if found.failed else 0
