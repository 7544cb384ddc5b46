"""`voxkit plot`: curves of training runs, the layer weights of a checkpoint, what it attends to and where it hears its words, as PNG."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

HELP = "curves of training runs, layer weights, attention and alignment of a checkpoint, as PNG"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("plot", help=HELP, description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    curves = what.add_parser("curves", help="loss, WER on dev and learning rate by step")
    curves.add_argument("runs", nargs="+", metavar="RUN", help="run directories, or exp/NAME for the newest run of that name")
    curves.add_argument("--overlay", action="store_true", help="all begin at step 0; by default one follows the other, as stages do")
    curves.add_argument("--title", default="")
    curves.add_argument("--out", type=Path, default=Path("curves.png"))
    mix = what.add_parser("mix", help="weights of the layer mix")
    mix.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    mix.add_argument("--out", type=Path, default=Path("mix.png"))
    attention = what.add_parser("attention", help="what the decoder looks at for each token")
    attention.add_argument("--layer", type=int, default=-1, help="of the decoder, from 0 (default: the last)")
    alignment = what.add_parser("alignment", help="where the tokens and words of an utterance are")
    alignment.add_argument("--cuts", help="cuts with the true times of words; the utterance's id is its file's name without suffix")
    for sub in (attention, alignment):
        sub.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
        sub.add_argument("input", help="an audio file, or features [T, F] as .npy")
        sub.add_argument("--out", type=Path, help="PNG (default: attention.png, alignment.png)")


def run(args: argparse.Namespace) -> int:
    from voxkit.plot import mix_weights, plot_curves, plot_mix

    if args.what == "curves":
        print(plot_curves(args.runs, args.out, overlay=args.overlay, title=args.title))
        return 0
    if args.what in ("attention", "alignment"):
        print(_one_utterance(args))
        return 0
    from voxkit.checkpoint.loading import find_checkpoint

    checkpoint = find_checkpoint(args.checkpoint)
    for state, weight in mix_weights(checkpoint).items():
        print(f"state {state:2}  {weight:.4f}")
    print(plot_mix(checkpoint, args.out))
    return 0


def _one_utterance(args: argparse.Namespace) -> Path:
    from voxkit.infer.inspection import inspect
    from voxkit.infer.recognizer import Recognizer, read_input
    from voxkit.plot import plot_alignment, plot_attention

    seen = inspect(Recognizer.load(args.checkpoint), read_input(args.input))
    out = args.out or Path(f"{args.what}.png")
    if args.what == "attention":
        if seen.attention is None:
            raise ValueError(f"{args.checkpoint}: a model with CTC alone has no decoder whose attention could be drawn; "
                             "try `voxkit plot alignment`")
        return plot_attention(seen.attention, seen.tokens, seen.seconds_per_frame, out, layer=args.layer, title=seen.text)
    true = _true_words(args.cuts, Path(args.input).stem) if args.cuts else []
    return plot_alignment(seen.features, seen.curve, seen.fires, seen.words, seen.seconds_per_frame, out, true=true, label=seen.label,
                          title=seen.text)


def _true_words(path: str, id: str) -> list[Any]:
    from voxkit.data.manifests import load_cuts
    from voxkit.infer.calibration import true_words

    for cut in load_cuts(path):
        if cut.id == id:
            words = true_words(cut)
            if not words:
                raise ValueError(f"{path}: cut {id} does not know when its words are said")
            return words
    raise ValueError(f"{path}: no cut {id}")
