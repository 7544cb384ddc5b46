"""`voxkit tune`: choose the weights of the searches (language model, length bonus, CTC, phrases) on a development set, which goes through
the encoder once. `voxkit decode --tuned FILE` then takes for every method what was best for it; `voxkit tune --again FILE` repeats it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxkit.cli.search_options import Search
    from voxkit.infer.decoding import EncodedBatch

HELP = "choose language model, CTC and phrase weights on a development set"

# option of the command, with the values to try → option of the search, which fixes it where it is given
COORDINATES = {"ctc_weights": "ctc_weight", "lm_weights": "lm_weight", "rescore_weights": "rescore_weight",
               "length_bonuses": "length_bonus", "length_limits": "length_limit", "boosts": "boost"}
GRID = {"ctc_weights": [0.3, 0.5, 0.7, 0.9], "lm_weights": [0.3, 0.1, 0.5, 0.8], "rescore_weights": [0.3, 0.1, 0.5, 0.8],
        "length_bonuses": [0.0, 0.5, 1.0, 2.0, 3.0], "length_limits": [1.2, 1.0], "boosts": [1.5, 1.0, 2.0, 3.0]}
COUPLED = ("lm_weight", "length_bonus")  # the more a language model counts, the shorter texts get
WHERE = "what tune writes, by default decode/tuned.json in a run"
_NO_OPTIONS = ("command", "again", "checkpoint", "set", "data_dir", "lm", "rescore_lm", "graph", "phrases", "device", "out")


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.record import add_again_argument
    from voxkit.cli.search_options import add_search_arguments, add_set_arguments

    parser = subparsers.add_parser("tune", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    add_again_argument(parser, "a tuning", WHERE)
    parser.add_argument("--set", help="prepared set, or path of cuts; name:0.25 is a quarter of one")
    parser.add_argument("--methods", nargs="+", help="searches to tune; greedy ones have a boost of phrases at most")
    _add_values(parser, "--ctc-weights", "W", "in joint, rescoring and a Paraformer's beam; --ctc-weight, and likewise the others, fixes "
                                              "it instead")
    _add_values(parser, "--lm-weights", "W", "where --lm is given")
    _add_values(parser, "--rescore-weights", "W", "where --rescore-lm is given")
    _add_values(parser, "--length-bonuses", "B", "per token, where --lm or --rescore-lm is given, but for a Paraformer's beam, where it "
                                                 "changes nothing")
    _add_values(parser, "--length-limits", "R", "in attention, and in joint where values are given")
    _add_values(parser, "--boosts", "B", "where --phrases is given")
    add_search_arguments(parser)
    add_set_arguments(parser, "decode/tuned.json in the run")


def _add_values(parser: argparse.ArgumentParser, option: str, metavar: str, where: str) -> None:
    values = " ".join(f"{value:g}" for value in GRID[option[2:].replace("-", "_")])
    parser.add_argument(option, nargs="+", type=float, metavar=metavar, help=f"tried {where} (by default {values})")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli import record
    from voxkit.cli.idle_options import check_looked_at, check_needs

    if args.again:
        record.refuse_besides(args, add_parser, "tune", ("device", "data_dir", "out"))
        known = record.read(args.again, "tune", WHERE)
        now = tune(_arguments(known, args))
        # of the weights that were kept then, which once were fewer
        kept = {method: {name: now[method].get(name) for name in found} for method, found in known["methods"].items()}
        return record.compare(known, known["methods"], kept, "the same weights")
    if not args.checkpoint or not args.set or not args.methods:
        raise ValueError("give a checkpoint, --set and --methods, or --again with the record of a tuning")
    for values, fixed in COORDINATES.items():
        if getattr(args, values) is not None and getattr(args, fixed) is not None:
            raise ValueError(f"--{values} and --{fixed}: the one is tried, the other fixes it; leave one of them away".replace("_", "-"))
    check_needs(vars(args))
    check_looked_at({name: getattr(args, name) for name in GRID}, args.methods)
    tune(argparse.Namespace(**vars(args), limited=_limited(args.methods, everywhere=bool(args.length_limits))))
    return 0


def tune(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Tune, print and write → method → what was best for it."""
    from voxkit.checkpoint.loading import decode_dir
    from voxkit.cli.search_options import LANGUAGE_MODELS, build_search
    from voxkit.data.sets import read_sets
    from voxkit.eval.table import format_table
    from voxkit.infer.checkpoint import load_checkpoint
    from voxkit.infer.decoding import encode_cuts
    from voxkit.infer.recognizer import Recognizer
    from voxkit.train.distributed import choose_device

    device = choose_device(args.device)
    loaded = load_checkpoint(args.checkpoint, device, args.overrides)
    config = loaded.recipe.config
    args = argparse.Namespace(**{**vars(args), **{name: getattr(args, name) or values for name, values in GRID.items()}})
    search = build_search(args, Recognizer(loaded.model, loaded.tokenizer, device), config.decode)
    search.check(args.methods)
    grids = {method: choices_of(args, search, method) for method in args.methods}
    for method, grid in grids.items():
        for limit in grid.get("length_limit", []):
            search.recognizer.check(search.of(method, length_limit=limit))
    data_dir = args.data_dir or config.data.data_dir
    cuts = read_sets(data_dir, [args.set], args.limit)
    failures: dict[str, str] = {}
    encoded = list(encode_cuts(search.recognizer, cuts, config.data, args.set, failures))
    for id, reason in failures.items():
        print(f"{id}: left out: {reason}")
    best = {method: _tune(args, search, encoded, method, grid) for method, grid in grids.items()}
    out = Path(args.out) if args.out else decode_dir(loaded.path) / "tuned.json"
    utterances = sum(len(batch.ids) for batch in encoded)
    _write(out, args, loaded, search, data_dir, {"utterances": utterances, "methods": best})
    print(format_table([{"method": method, **{k: f"{v:g}" for k, v in found.items()}} for method, found in best.items()],
                       title=f"best on {args.set} ({utterances} utterances)"))
    fused = " and ".join("--" + name.replace("_", "-") for name in (*LANGUAGE_MODELS, "phrases") if getattr(args, name))
    print(f"{out}: hand it to `voxkit decode --tuned`" + (f" with {fused}" if fused else ""))
    return best


def _write(out: Path, args: argparse.Namespace, loaded: Any, search: Search, data_dir: str, found: dict[str, Any]) -> None:
    """What was chosen, as `--tuned` reads it, with everything that decided it."""
    from voxkit.cli import record
    from voxkit.data.sets import split_path, split_share

    name, share = split_share(args.set)
    options = {key: value for key, value in vars(args).items() if key not in _NO_OPTIONS}
    record.write(out, "tune", {
        "set": args.set, "share": share, "cuts": record.stamped(split_path(data_dir, name), out),
        **record.checkpoint_part(loaded, out), **record.models_part(search, out),
        "phrases": args.phrases, "phrase_file": record.stamped(args.phrases, out) if args.phrases else None,
        "beam": search.options.beam, "options": options, "device": args.device, **record.made_by("torch"), **found})


def _arguments(known: dict[str, Any], given: argparse.Namespace) -> argparse.Namespace:
    """The options that repeat a tuning; device, data and out may be given anew."""
    from voxkit.cli import record
    from voxkit.cli.decode_record import cuts_of
    from voxkit.cli.idle_options import NEEDS

    found = {"set": cuts_of(known, given.data_dir), "checkpoint": record.checkpoint_of(known), **record.models_of(known),
             "phrases": record.unchanged("phrases", known["phrase_file"], known["folder"]) if known["phrase_file"] else None}
    out = Path(given.out) if given.out else record.again_folder(known, None) / Path(given.again).name
    if out.resolve() == Path(given.again).resolve():
        raise ValueError(f"--out {out}: the record itself would be overwritten; give another file")
    # a record from before there was a limit of length says nothing of it; one from before joint tried any has those of attention
    methods = known["options"]["methods"]
    before = {"limited": _limited(methods), **({"length_limit": math.inf} if _limited(methods, everywhere=True) else {})}
    used = {name: value for name, value in known["options"].items() if name not in NEEDS or any(found[model] for model in NEEDS[name])}
    return argparse.Namespace(**{**vars(given), **before, **used, **found, "out": str(out), "again": None})


def _tune(args: argparse.Namespace, search: Search, encoded: list[EncodedBatch], method: str,
          grid: dict[str, list[float]]) -> dict[str, float]:
    """The best setting of one method, its WER in per cent and how many were tried."""
    from voxkit.cli.search_options import read_phrases
    from voxkit.infer.tuning import coordinate_search, word_error_rate

    lowest = math.inf

    def measure(setting: Mapping[str, float]) -> float:
        nonlocal lowest
        changes: dict[str, Any] = dict(setting)
        if "boost" in changes:
            changes["context"] = search.recognizer.phrases(read_phrases(args.phrases, changes.pop("boost")))
        wer, whole = word_error_rate(search.recognizer, encoded, search.of(method, **changes), args.normalise, below=lowest)
        lowest = min(lowest, wer)
        chosen = [f"{name} {value:g}" for name, value in setting.items()]
        print(", ".join([f"method {method}", *chosen, f"WER {'' if whole else 'at least '}{100 * wer:.2f}"]), flush=True)
        return wer

    tried = coordinate_search(measure, grid, together=COUPLED)
    best = min(tried, key=lambda setting: tried[setting])
    return {**dict(best), "WER": round(100 * tried[best], 4), "tried": len(tried)}


def _limited(methods: Sequence[str], everywhere: bool = False) -> list[str]:
    """Those of the methods whose limit of length is tuned; `everywhere`: also where CTC is in the scores already."""
    from voxkit.search.method import looks_at

    return [method for method in methods if looks_at(method, "length_limit") and (everywhere or not looks_at(method, "ctc_weight"))]


def choices_of(args: argparse.Namespace, search: Search, method: str) -> dict[str, list[float]]:
    """Option of the search → values to try, for one method; only those that change what it finds. What was typed of its other weights is
    there too, as the only value, so that the file keeps what the rest was chosen with.

    Raises:
        ValueError: there is nothing to choose.
    """
    options, weights = search.of(method), search.recognizer.method(method).weights
    by_text = options.lm is not None or options.rescore_lm is not None
    weighs_ctc = "ctc_weight" in weights and search.recognizer.model.heads.ctc is not None
    matters = {"ctc_weights": weighs_ctc, "lm_weights": options.lm is not None, "rescore_weights": options.rescore_lm is not None,
               "length_bonuses": by_text and "length_bonus" in weights, "length_limits": method in args.limited,
               "boosts": options.context is not None}
    found = {}
    for key, option in COORDINATES.items():
        if matters[key]:
            given = getattr(args, option)
            found[option] = getattr(args, key) if given is None else [given]
    if not found:
        raise ValueError(f"--methods {method}: there is nothing to choose without --lm, --rescore-lm or --phrases that it takes; give "
                         "what it takes (docs/decoding.md), or leave the method out")
    fixed = {name: [value] for name, value in search.typed.items() if name in weights and name != "beam"}
    return {**found, **fixed}
