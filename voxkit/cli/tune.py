"""`voxkit tune`: choose the weights of the searches (language model, length bonus, CTC, phrases) on a development set, which goes through
the encoder once. `voxkit decode --tuned FILE` then takes for every method what was best for it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HELP = "choose language model, CTC and phrase weights on a development set"

# option of the command → option of the search, and the methods it matters to; None = all but greedy
COORDINATES = {"ctc_weights": ("ctc_weight", ("joint", "rescoring", "beam")), "lm_weights": ("lm_weight", None),
               "length_bonuses": ("length_bonus", None), "boosts": ("boost", None)}


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.search_options import add_search_arguments

    parser = subparsers.add_parser("tune", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("--set", required=True, help="prepared set, or path of cuts; name:0.25 is a quarter of one")
    parser.add_argument("--data-dir", help="where it is; by default as in training")
    parser.add_argument("--methods", nargs="+", required=True, help="searches to tune; greedy has nothing to choose")
    parser.add_argument("--ctc-weights", nargs="+", type=float, default=[0.3, 0.5, 0.7, 0.9], metavar="W",
                        help="tried in joint and rescoring")
    parser.add_argument("--lm-weights", nargs="+", type=float, default=[0.3, 0.2, 0.5], metavar="W", help="tried where --lm is given")
    parser.add_argument("--length-bonuses", nargs="+", type=float, default=[0.0, 0.5, 1.0], metavar="B",
                        help="per token, tried where --lm is given")
    parser.add_argument("--boosts", nargs="+", type=float, default=[1.5, 1.0, 2.0, 3.0], metavar="B", help="tried where --phrases is given")
    add_search_arguments(parser)
    parser.add_argument("--normalise", default="none", help="of references and hypotheses before scoring: none, librispeech, ...")
    parser.add_argument("--limit", type=int, default=0, help="only the first utterances of the set")
    parser.add_argument("--out", help="by default decode/tuned.json in the run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the checkpoint's configuration")


def run(args: argparse.Namespace) -> int:
    import torch

    from voxkit import config as configuration
    from voxkit.cli.search_options import build_search, read_phrases
    from voxkit.eval.table import format_table
    from voxkit.infer.checkpoint import load_checkpoint
    from voxkit.infer.recognizer import Recognizer
    from voxkit.infer.tuning import coordinate_search, encode_set, word_error_rate
    from voxkit.training import read_sets

    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    loaded = load_checkpoint(args.checkpoint, device, args.overrides)
    config = loaded.recipe.config
    recognizer = Recognizer(loaded.model, loaded.tokenizer, device)
    search = build_search(args, recognizer, config.decode)
    grids = {method: choices_of(args, method) for method in args.methods}
    cuts = read_sets(args.data_dir or config.data.data_dir, [args.set])
    if args.limit and len(cuts):
        cuts = cuts.subset(first=min(args.limit, len(cuts)))
    encoded = encode_set(recognizer, cuts, config.data, args.set)
    rows: list[dict[str, Any]] = []
    content: dict[str, Any] = {"set": args.set, "utterances": len(encoded.references), "checkpoint": str(loaded.path),
                               "step": loaded.meta.get("step"), "lm": args.lm, "phrases": args.phrases, "beam": search.options.beam,
                               "methods": {}}
    for method, choices in grids.items():
        def measure(setting: Any, method: str = method) -> float:
            chosen = dict(setting)
            boost = chosen.pop("boost", None)
            context = search.options.context if boost is None else recognizer.phrases(read_phrases(args.phrases, boost))
            wer = word_error_rate(recognizer, encoded, search.of(method, context=context, **chosen), args.normalise)
            rows.append({"method": method, **{name: f"{value:g}" for name, value in setting.items()}, "WER": f"{100 * wer:.2f}"})
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            return wer

        tried = coordinate_search(measure, choices)
        best = min(tried, key=lambda setting: tried[setting])
        content["methods"][method] = {**dict(best), "WER": round(100 * tried[best], 4), "tried": len(tried)}
    out = Path(args.out) if args.out else loaded.path.parent.parent / "decode" / "tuned.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(out, json.dumps(content, indent=1) + "\n")
    print(format_table([{"method": method, **{k: f"{v:g}" for k, v in found.items()}} for method, found in content["methods"].items()],
                       title=f"best on {args.set} ({content['utterances']} utterances)"))
    print(f"{out}: hand it to `voxkit decode --tuned`" + " with the same --lm" * bool(args.lm) + " and --phrases" * bool(args.phrases))
    return 0


def choices_of(args: argparse.Namespace, method: str) -> dict[str, list[float]]:
    """Option of the search → values to try, for one method.

    Raises:
        ValueError: there is nothing to choose.
    """
    given = {"ctc_weights": True, "lm_weights": args.lm, "length_bonuses": args.lm, "boosts": args.phrases}
    found = {option: getattr(args, key) for key, (option, methods) in COORDINATES.items()
             if given[key] and method != "greedy" and (methods is None or method in methods)}
    if not found:
        raise ValueError(f"--methods {method}: there is nothing to choose" +
                         ("" if method == "greedy" else " without --lm or --phrases; give one of them, or leave the method out"))
    return found
